"""What happens inside a worker process: load the experiment once, then train the runs it is handed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from dropkit.study.fused import LaneReport, train_fused
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


def execute(unit: Sequence[tuple[int, int]], folder: str) -> tuple[list[Run] | Failure, float]:
    """Train one run, or several as one batch; return the runs, or what was raised, and the seconds it took.

    Args:
        unit: index of the arm and seed of each run.
        folder: the study's.
    """
    start = time.perf_counter()
    files = [progress_file(Path(folder), arm, seed) for arm, seed in unit]
    try:
        with ExitStack() as opened:
            outs = [opened.enter_context(file.open("w", encoding="utf-8")) for file in files]

            def report(run: int, epoch: int, loss: float) -> None:
                outs[run].write(json.dumps([epoch, loss]) + "\n")
                outs[run].flush()
            found: list[Run] | Failure = _train(unit, report)
    except Exception as error:
        found = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
    for file in files:
        file.unlink(missing_ok=True)
    return found, time.perf_counter() - start


def _train(unit: Sequence[tuple[int, int]], report: LaneReport) -> list[Run]:
    ready = _ready[0]
    if len(unit) == 1:
        (arm, seed), = unit
        return [train(ready, ready.arms[arm], seed, lambda epoch, loss: report(0, epoch, loss))]
    return train_fused(ready, [(ready.arms[arm], seed) for arm, seed in unit], report)


def dump(source: Any, arms: Any) -> bytes:
    """Return the payload for `initialise`."""
    return bytes(cloudpickle.dumps((source, arms, list(sys.path))))


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
