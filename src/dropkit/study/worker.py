"""What happens where runs are trained: load the experiment once, then train the runs that are handed over."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from dropkit.core.errors import InputError, phrase
from dropkit.study.checkpoint import Keeper, Place, Stopped
from dropkit.study.prepare import Prepared, prepare
from dropkit.study.reference import find_experiment
from dropkit.study.result import Run
from dropkit.study.training import train

_payload: list[bytes] = []  # of this worker process, filled by `initialise`
_ready: dict[bytes, Prepared] = {}  # the one experiment of this process, by its payload


@dataclass(frozen=True)
class Failure:
    """A run that raised: the error in a line, and its traceback."""

    error: str
    trace: str


@dataclass(frozen=True)
class Outcome:
    """What became of a run: itself, what it raised, or None where it was asked to stop; seconds spent; notes for the user."""

    found: Run | Failure | None
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


def initialise(payload: bytes, log: str) -> None:
    """Make a worker process ready: one thread, deaf to signals to its group (the driver decides), gone with the driver.

    Args:
        payload: what `dump` returned.
        log: the file that takes what the user's code prints, which would otherwise break the driver's display.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)
    _payload[:] = [payload]


def execute(payload: bytes | None, place: Place, arm: int, seed: int) -> Outcome:
    """Train the arm with index ``arm`` and ``seed``, from its last checkpoint on if there is one.

    Args:
        payload: what `dump` returned, or None for the one that `initialise` was given; the process loads it once.
        place: where progress and checkpoints go; where there is no such folder, as on a machine that does not share the
            driver's disk, the run trains without.
        arm: index of the arm.
        seed: the run's.
    """
    start = time.perf_counter()
    shared = (place.folder / "progress").is_dir()
    keeper = Keeper(place) if shared else None
    reporter = _Reporter(progress_file(place.folder, arm, seed), shared)
    found: Run | Failure | None
    try:
        ready = _prepared(_payload[0] if payload is None else payload, place)
        found = train(ready, ready.arms[arm], seed, reporter, keeper)
    except Stopped:
        found = None
    except (Exception, SystemExit) as error:  # user code that calls sys.exit must not end the worker, let alone the driver
        found = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    reporter.close()
    return Outcome(found, time.perf_counter() - start, reporter.notes + (keeper.notes if keeper else []))


def dump(source: Any, arms: Any) -> bytes:
    """Return the payload for `execute`: a cloudpickle of the experiment or (reference, options), the arms, and sys.path."""
    return bytes(cloudpickle.dumps((source, arms, list(sys.path))))


def read(payload: bytes) -> Prepared:
    """Return the experiment that `dump` packed, made ready anew."""
    source, arms, paths = cloudpickle.loads(payload)
    sys.path[:] = [*paths, *(path for path in sys.path if path not in paths)]
    experiment = find_experiment(source[0], **source[1]) if isinstance(source, tuple) else source
    return prepare(experiment, arms, check=False)


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
