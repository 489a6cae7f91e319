"""What an engine is, and which one a study uses."""

from __future__ import annotations

import os
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from dropkit.core.errors import InputError, phrase
from dropkit.study.checkpoint import EVERY, Place
from dropkit.study.fused_trial import LANES
from dropkit.study.worker import Outcome, Unit

ENGINES = ("processes", "ray", "serial")


class Engine(Protocol):
    """Trains runs somewhere. What it loses is not its affair: the runner tries again."""

    slots: int
    """How many runs it takes at a time."""

    lost: tuple[type[BaseException], ...]
    """What a future raises when the process or machine that trained its run is gone."""

    def submit(self, unit: Unit) -> Future[Outcome]:
        """Begin a run, or several as one batch."""

    def close(self) -> None:
        """End every process and run of the engine, at once."""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Running:
    """How a study's runs are executed; none of it but ``fused`` changes their numbers.

    Args:
        engine: ``"processes"``: worker processes on this machine; ``"ray"``: tasks on a Ray cluster; ``"serial"``: in this
            process, one after the other, for debuggers.
        jobs: worker processes, or the cores of a Ray that is started here; the machine's cores by default.
        address: of the Ray cluster, ``"auto"`` for the one this machine belongs to; by default Ray is started on this machine.
        cpus_per_run: cores that Ray reserves for a run, above 0; the run itself uses one thread.
        checkpoint_every: seconds between two checkpoints of a run, at least 0; 0 writes one after every step.
        fused: True, False or ``"auto"``: whether runs are trained as one batch, which changes their numbers by rounding.

    Raises:
        InputError: a field breaks its rule.
    """

    engine: str = "processes"
    jobs: int | None = None
    address: str | None = None
    cpus_per_run: float = 1.0
    checkpoint_every: float = EVERY
    fused: bool | str = "auto"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine is one of {', '.join(ENGINES)}", got=self.engine, fix="Choose one of them")
        if self.jobs is not None and (isinstance(self.jobs, bool) or not isinstance(self.jobs, int) or self.jobs < 1):
            raise InputError("jobs is a whole number of at least 1", got=self.jobs, fix="Leave it out to use every core")
        if self.engine != "ray" and (self.address is not None or self.cpus_per_run != 1):
            raise InputError("address and cpus_per_run are for the engine ray", got=phrase(f"engine={self.engine!r}"),
                             fix="Add --engine ray, or leave them out")
        if not isinstance(self.fused, bool) and self.fused != "auto":
            raise InputError('fused is True, False or "auto"', got=self.fused, fix='Leave it out for "auto"')
        if not _number(self.cpus_per_run) or not self.cpus_per_run > 0:
            raise InputError("cpus_per_run is above 0", got=self.cpus_per_run, fix="1 is a good number")
        if not _number(self.checkpoint_every) or not self.checkpoint_every >= 0:
            raise InputError("checkpoint_every is a number of seconds of at least 0", got=self.checkpoint_every,
                             fix=f"Leave it out for {EVERY:g} s")

    @property
    def workers(self) -> int:
        """How many runs are trained at a time on this machine."""
        if self.engine == "serial":
            return 1
        if self.jobs is not None:
            return self.jobs
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(running: Running, payload: bytes, place: Place, runs: int) -> Engine:
    """Return the chosen engine, ready for runs.

    Args:
        running: the choice.
        payload: the experiment, as `dropkit.study.worker.dump` packs it.
        place: where progress and checkpoints go.
        runs: how many there are to train, by ones or up to `LANES` at once.

    Raises:
        InputError: the cluster is not there, or none of its machines can take a run.
        MissingExtraError: Ray is not installed.
    """
    if running.engine == "ray":
        from dropkit.study.engines.cluster import RayTasks

        return RayTasks(payload, place, running)
    if running.engine == "serial":
        from dropkit.study.engines.serial import Serial

        return Serial(payload, place)
    from dropkit.study.engines.processes import Processes

    slots = min(running.workers, runs)
    return Processes(payload, place, slots, ahead=min(slots, -(-runs // LANES)))
