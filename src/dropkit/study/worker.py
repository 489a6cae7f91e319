"""What happens where runs are trained: load the experiment once, then train the runs that are handed over."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.checkpoint import Keeper, Place, Stopped
from dropkit.study.data import Data
from dropkit.study.fused import train_fused
from dropkit.study.prepare import Prepared, prepare
from dropkit.study.reference import find_experiment
from dropkit.study.result import Run
from dropkit.study.training import train

Unit = tuple[tuple[int, int], ...]  # what a worker is handed at once: the index of the arm and the seed of each run
_SMALL = 1 << 24  # bytes of data that are sent to every worker; more would be in memory once more, packed
_payload: list[bytes] = []  # of this worker process, filled by `begin`
_ready: dict[bytes, Prepared] = {}  # the one experiment of this process, by its payload


@dataclass(frozen=True)
class Failure:
    """A run that raised: the error in a line, and its traceback."""

    error: str
    trace: str


@dataclass(frozen=True)
class Outcome:
    """What became of runs: themselves, what was raised, or None where they were asked to stop; seconds; notes for the user."""

    found: list[Run] | Failure | None
    seconds: float
    notes: list[str] = field(default_factory=list)


def progress_file(folder: Path, arm: int, seed: int) -> Path:
    """Return where the run of the arm with index ``arm`` writes a line an epoch while it trains."""
    return folder / "progress" / f"{arm}-{seed}.jsonl"


def last_report(folder: Path, arm: int, seed: int) -> tuple[int, float] | None:
    """Return the last epoch that a run in hand has reported, and its training loss; None where there is nothing to read."""
    try:
        epoch, loss = json.loads(progress_file(folder, arm, seed).read_text(encoding="utf-8").splitlines()[-1])
    except (OSError, IndexError, ValueError):  # not begun, or a line half written: there will be more in a moment
        return None
    return epoch, loss


def initialise(log: str) -> None:
    """Make a worker process ready: one thread, deaf to signals to its group (the driver decides), gone with the driver.

    Args:
        log: the file that takes what the user's code prints, which would otherwise break the driver's display; where it cannot
            be written, as on a full disk, what is printed is lost.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        out = os.open(os.devnull, os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)


def begin(log: str, payload: bytes) -> None:
    """Make a worker process ready and keep what `dump` returned for the runs to come.

    Args:
        log: as for `initialise`.
        payload: for `execute`.
    """
    initialise(log)
    _payload[:] = [payload]
    gc.freeze()  # what was imported stays: no use in looking through it again and again
    gc.enable()  # which was off for the imports, as they are a tenth faster without


def execute(payload: bytes | None, place: Place, unit: Unit) -> Outcome:
    """Train one run, from its last checkpoint on if there is one, or several as one batch, which has no checkpoints.

    Args:
        payload: what `dump` returned, or None for the one that `begin` was given; the process loads it once.
        place: where progress and checkpoints go; where there is no such folder, as on a machine that does not share the
            driver's disk, the run trains without.
        unit: index of the arm and seed of each run.
    """
    start = time.perf_counter()
    shared = (place.folder / "progress").is_dir()
    keeper = Keeper(place) if shared and len(unit) == 1 else None
    reporters = [_Reporter(progress_file(place.folder, arm, seed), shared) for arm, seed in unit]
    found: list[Run] | Failure | None
    try:
        ready = _prepared(_payload[0] if payload is None else payload, place)
        found = _train(ready, unit, place, reporters, keeper)
    except Stopped:
        found = None
    except FAILURES as error:
        found = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    for reporter in reporters:
        reporter.close()
    notes = [note for reporter in reporters for note in reporter.notes] + (keeper.notes if keeper else [])
    return Outcome(found, time.perf_counter() - start, notes)


def _train(ready: Prepared, unit: Unit, place: Place, reporters: list[_Reporter], keeper: Keeper | None) -> list[Run]:
    if len(unit) == 1:
        (arm, seed), = unit
        return [train(ready, ready.arms[arm], seed, reporters[0], keeper)]

    def report(run: int, epoch: int, loss: float) -> None:
        reporters[run](epoch, loss)
        if place.stop.exists():
            raise Stopped(f"a batch of {len(unit)} runs was stopped in epoch {epoch + 1}")

    return train_fused(ready, [(ready.arms[arm], seed) for arm, seed in unit], report)


def dump(source: Any, arms: Any, data: Data | None = None) -> bytes:
    """Return the payload for `execute`: sys.path, data, and a cloudpickle of the experiment or its reference and of the arms.

    The path stands outside, because the experiment may name modules that are found only by it.

    Args:
        source: the experiment, or (reference, options) by which it is found.
        arms: as `make_arms` takes them.
        data: what `handed_over` returned; None where workers read it themselves.
    """
    return bytes(cloudpickle.dumps((list(sys.path), data, cloudpickle.dumps((source, arms)))))


def handed_over(ready: Prepared) -> Data | None:
    """Return the data where it was read by its name and is small: a worker need not read it again, nor import what reads it."""
    data, source = ready.data, ready.experiment.data
    named = all(isinstance(part, (str, os.PathLike)) for part in (source.values() if isinstance(source, Mapping) else [source]))
    size = sum(values.nbytes for values in vars(data).values() if isinstance(values, Tensor))
    return data if named and size <= _SMALL else None


def read(payload: bytes) -> Prepared:
    """Return the experiment that `dump` packed, made ready anew."""
    paths, data, packed = cloudpickle.loads(payload)
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    source, arms = cloudpickle.loads(packed)
    experiment = find_experiment(source[0], **source[1]) if isinstance(source, tuple) else source
    return prepare(experiment, arms, check=False, data=data)


def _prepared(payload: bytes, place: Place) -> Prepared:
    if payload not in _ready:
        ready = read(payload)
        if ready.data.digest != place.data:
            raise InputError("data reads alike in every process", got=phrase("other values than the study began with"),
                             fix="Fix the seed of what is random in it, or save it and name the file")
        _ready.clear()
        _ready[payload] = ready
    return _ready[payload]


class _Reporter:
    """Writes a line an epoch; on a full disk the run goes on without."""

    def __init__(self, file: Path, wanted: bool) -> None:
        self._file, self._wanted = file, wanted
        self.notes: list[str] = []
        self._write("w", "")

    def __call__(self, epoch: int, loss: float) -> None:
        self._write("a", json.dumps([epoch, loss]) + "\n")

    def _write(self, mode: str, text: str) -> None:
        if not self._wanted:
            return
        try:
            with self._file.open(mode, encoding="utf-8") as out:
                out.write(text)
        except OSError as error:
            self._wanted = False
            self.notes.append(f"progress is no longer written: {error}")

    def close(self) -> None:
        self._file.unlink(missing_ok=True)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
