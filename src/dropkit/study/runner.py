"""Hand runs to worker processes, keep what they finish, and tell an observer how far they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loky.process_executor import ProcessPoolExecutor

from dropkit.core.errors import DropkitError
from dropkit.study.result import Arm, Run
from dropkit.study.worker import Failure, execute, initialise, progress_file

Task = tuple[int, int]  # (index of the arm, seed)
Unit = Sequence[Task]  # what a worker is handed at once: a run, or runs that are trained as one batch
_GLANCE = 0.2  # seconds between two looks at the workers' progress


class RunError(DropkitError):
    """A run could not be finished; the runs before it are kept."""


@dataclass
class Progress:
    """How far a study is: for each (arm, seed) the epoch reached, the last training loss, and the run once finished."""

    arms: list[Arm]
    seeds: list[int]
    epochs: int
    jobs: int
    epoch: dict[tuple[str, int], int] = field(default_factory=dict)
    loss: dict[tuple[str, int], float] = field(default_factory=dict)
    finished: dict[tuple[str, int], Run] = field(default_factory=dict)
    kept: int = 0  # runs taken over from an earlier call

    @property
    def share(self) -> float:
        """Share of the work done, between 0 and 1, counted in epochs; a finished run counts whole."""
        running = sum(self.epoch.get(key, 0) for key in self.epoch if key not in self.finished)
        return (len(self.finished) * self.epochs + running) / (len(self.arms) * len(self.seeds) * self.epochs)


class Observer(Protocol):
    """Someone who is told about progress."""

    def update(self, progress: Progress) -> None:
        """Take note of how far the study is; called several times a second."""


def run_tasks(tasks: Sequence[Unit], payload: bytes, folder: Path, progress: Progress, observer: Observer,
              keep: Callable[[Run, float], None]) -> None:
    """Train ``tasks`` in ``progress.jobs`` worker processes.

    Args:
        tasks: the runs to train, one or several at once, begun in this order.
        payload: for `dropkit.study.worker.initialise`.
        folder: the study's folder, for progress files and the workers' log.
        progress: brought up to date as runs go on.
        observer: shown ``progress``.
        keep: called in this process with each finished run and its seconds.

    Raises:
        RunError: a run raised, or a worker process died. Runs that had finished were kept.
        KeyboardInterrupt: passed on after the workers have been stopped.
    """
    _clear(folder)
    executor = ProcessPoolExecutor(
        max_workers=min(progress.jobs, len(tasks)), initializer=initialise, initargs=(payload, str(folder / "worker.log")))
    try:
        waiting: dict[Future[Any], Unit] = {executor.submit(execute, unit, str(folder)): unit for unit in tasks}
        while waiting:
            done, _ = wait(waiting, timeout=_GLANCE, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=_failed):  # what finished is kept before a failure ends the study
                _take(future, waiting.pop(future), progress, keep, folder)
            _glance(waiting, folder, progress)
            observer.update(progress)
    finally:
        executor.shutdown(wait=True, kill_workers=True)
        _clear(folder)


def _failed(future: Future[Any]) -> bool:
    return future.exception() is not None or isinstance(future.result()[0], Failure)


def _take(future: Future[Any], unit: Unit, progress: Progress, keep: Callable[[Run, float], None], folder: Path) -> None:
    named = _words(unit, progress)
    try:
        found, seconds = future.result()
    except BrokenProcessPool as error:
        raise RunError(f"a worker process died while {named} was in hand (out of memory, or killed); "
                       f"see {folder / 'worker.log'}. Run the same command to go on, with fewer --jobs if memory is short."
                       ) from error
    if isinstance(found, Failure):
        with (folder / "worker.log").open("a", encoding="utf-8") as log:
            log.write(found.trace)
        raise RunError(f"{named} failed: {found.error}. The traceback is in {folder / 'worker.log'}; "
                       "finished runs are kept.")
    for run in found:
        if (run.arm, run.seed) not in progress.finished:  # a batch that was broken off is trained whole again
            keep(run, seconds / len(found))
            progress.finished[run.arm, run.seed] = run


def _words(unit: Unit, progress: Progress) -> str:
    arms, seeds = (list(dict.fromkeys(values)) for values in zip(*unit, strict=True))
    names = " + ".join(progress.arms[arm].name for arm in arms)
    return f"{names}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _glance(waiting: dict[Future[Any], Unit], folder: Path, progress: Progress) -> None:
    for task in (task for unit in waiting.values() for task in unit):
        try:
            lines = progress_file(folder, *task).read_text(encoding="utf-8").splitlines()
            epoch, loss = json.loads(lines[-1])
        except (OSError, IndexError, ValueError):  # not begun, or a line half written: look again in a moment
            continue
        key = progress.arms[task[0]].name, task[1]
        progress.epoch[key], progress.loss[key] = epoch, loss


def _clear(folder: Path) -> None:
    """Empty the progress folder, and take away the workers' log where nothing was printed."""
    place = folder / "progress"
    place.mkdir(exist_ok=True)
    for file in place.iterdir():
        file.unlink(missing_ok=True)
    log = folder / "worker.log"
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
