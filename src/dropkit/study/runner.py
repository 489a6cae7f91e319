"""Hand runs to worker processes, keep what they finish, and tell an observer how far they are."""

from __future__ import annotations

import json
from collections.abc import Callable
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


def run_tasks(tasks: list[Task], payload: bytes, folder: Path, progress: Progress, observer: Observer,
              keep: Callable[[Run, float], None]) -> None:
    """Train ``tasks`` in ``progress.jobs`` worker processes.

    Args:
        tasks: the runs to train, begun in this order.
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
        waiting: dict[Future[Any], Task] = {executor.submit(execute, *task, str(folder)): task for task in tasks}
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


def _take(future: Future[Any], task: Task, progress: Progress, keep: Callable[[Run, float], None], folder: Path) -> None:
    arm, seed = progress.arms[task[0]].name, task[1]
    try:
        found, seconds = future.result()
    except BrokenProcessPool as error:
        raise RunError(f"a worker process died while {arm}, seed {seed} was in hand (out of memory, or killed); "
                       f"see {folder / 'worker.log'}. Run the same command to go on, with fewer --jobs if memory is short."
                       ) from error
    if isinstance(found, Failure):
        with (folder / "worker.log").open("a", encoding="utf-8") as log:
            log.write(found.trace)
        raise RunError(f"{arm}, seed {seed} failed: {found.error}. The traceback is in {folder / 'worker.log'}; "
                       "finished runs are kept.")
    keep(found, seconds)
    progress.finished[arm, seed] = found


def _glance(waiting: dict[Future[Any], Task], folder: Path, progress: Progress) -> None:
    for task in waiting.values():
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
