"""What happens inside a worker process: load the experiment once, then train the runs it is handed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from dropkit.study.prepare import Prepared, prepare
from dropkit.study.reference import find_experiment
from dropkit.study.result import Run
from dropkit.study.training import train

_ready: list[Prepared] = []  # filled once a process by `initialise`


@dataclass(frozen=True)
class Failure:
    """A run that raised: the error in a line, and its traceback."""

    error: str
    trace: str


def progress_file(folder: Path, arm: int, seed: int) -> Path:
    """Return where the run of the arm with index ``arm`` writes a line an epoch while it trains."""
    return folder / "progress" / f"{arm}-{seed}.jsonl"


def initialise(payload: bytes, log: str) -> None:
    """Make the process ready: one thread, deaf to Ctrl-C (the driver decides), gone when the driver is gone.

    Args:
        payload: a cloudpickle of (experiment or (reference, options), arm specifications, sys.path).
        log: the file that takes what the user's code prints, which would otherwise break the driver's display.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    torch.set_num_threads(1)
    source, arms, sys.path[:] = cloudpickle.loads(payload)
    experiment = find_experiment(source[0], **source[1]) if isinstance(source, tuple) else source
    _ready[:] = [prepare(experiment, arms, check=False)]


def execute(arm: int, seed: int, folder: str) -> tuple[Run | Failure, float]:
    """Train the arm with index ``arm`` and ``seed``; return the run, or what it raised, and the seconds it took."""
    start = time.perf_counter()
    file = progress_file(Path(folder), arm, seed)
    try:
        with file.open("w", encoding="utf-8") as out:
            def report(epoch: int, loss: float) -> None:
                out.write(json.dumps([epoch, loss]) + "\n")
                out.flush()
            found: Run | Failure = train(_ready[0], _ready[0].arms[arm], seed, report)
    except Exception as error:
        found = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    file.unlink(missing_ok=True)
    return found, time.perf_counter() - start


def dump(source: Any, arms: Any) -> bytes:
    """Return the payload for `initialise`."""
    return bytes(cloudpickle.dumps((source, arms, list(sys.path))))


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
