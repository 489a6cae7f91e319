"""Hand runs to an engine, keep what they finish, try again what is lost, and tell an observer how far they are."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dropkit.core.errors import DropkitError
from dropkit.study.engines.choice import Engine
from dropkit.study.result import Arm, Run
from dropkit.study.worker import Failure, Outcome, last_report

Task = tuple[int, int]  # (index of the arm, seed)
_GLANCE = 0.2  # seconds between two looks at the workers' progress
_PATIENCE = 3.0  # seconds that runs have for a last checkpoint when the study is stopped
_AGAIN = 2  # times a run is tried again whose worker was lost
_ALIKE = 3  # failures alike that end the study: the next would fail too


class RunError(DropkitError):
    """A run could not be finished; all that finished are kept."""


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
    failed: dict[tuple[str, int], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the user should know of how the runs went
    kept: int = 0  # runs taken over from an earlier call

    @property
    def share(self) -> float:
        """Share of the work done, between 0 and 1, counted in epochs; a finished or failed run counts whole."""
        over = self.finished.keys() | self.failed.keys()
        running = sum(epoch for key, epoch in self.epoch.items() if key not in over)
        return (len(over) * self.epochs + running) / (len(self.arms) * len(self.seeds) * self.epochs)


class Observer(Protocol):
    """Someone who is told about progress."""

    def update(self, progress: Progress) -> None:
        """Take note of how far the study is; called several times a second."""


class Book(Protocol):
    """Where finished and failed runs are written down."""

    def keep(self, run: Run, seconds: float) -> None:
        """Keep a finished run and the seconds it took."""

    def fail(self, arm: Arm, seed: int, error: str) -> None:
        """Note that a run failed, and by which error."""


def run_tasks(tasks: list[Task], engine: Engine, folder: Path, progress: Progress, observer: Observer, book: Book) -> None:
    """Train ``tasks`` on ``engine``, which is closed at the end.

    A run whose worker is lost is tried again, twice at most, from its last checkpoint. One that raises is not; the others go
    on, unless three fail alike.

    Args:
        tasks: the runs to train, begun in this order.
        engine: takes them.
        folder: the study's folder, for progress files and the workers' log.
        progress: brought up to date as runs go on.
        observer: shown ``progress``.
        book: told in this process of each finished and failed run.

    Raises:
        RunError: runs failed; it names them.
        KeyboardInterrupt: passed on after runs have had a moment for a last checkpoint.
    """
    shift = _Shift(engine, folder, progress, book, deque(tasks))
    try:
        while shift.waiting or shift.hand:
            shift.hand_out()
            shift.collect(_GLANCE)
            observer.update(progress)
    except BaseException:  # a study that cannot go on, as one that must not, lets its runs write a checkpoint
        with contextlib.suppress(DropkitError):
            shift.wind_down()
        raise
    finally:
        engine.close()
        clear(folder)
    if progress.failed:
        raise RunError(_complaint(progress, folder))


@dataclass
class _Shift:
    engine: Engine
    folder: Path
    progress: Progress
    book: Book
    waiting: deque[Task]
    hand: dict[Future[Outcome], Task] = field(default_factory=dict)
    losses: Counter[Task] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)

    def hand_out(self) -> None:
        """Fill the engine's slots, unless failures alike have shown that there is no point."""
        if any(count >= _ALIKE for count in self.alike.values()):
            self.waiting.clear()
            self.wind_down()
        while self.waiting and len(self.hand) < self.engine.slots:
            task = self.waiting.popleft()
            self.hand[self.engine.submit(*task)] = task

    def collect(self, seconds: float) -> None:
        """Wait for runs to end, at most for ``seconds``, and look how far the others are."""
        done, _ = wait(self.hand, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future, self.hand.pop(future))
        for task in self.hand.values():
            self._glance(task)

    def wind_down(self) -> None:
        """Ask the runs in hand to stop, and take what ends in a moment."""
        if not self.hand:
            return
        with contextlib.suppress(OSError):  # on a full disk there is no checkpoint to wait for either
            (self.folder / "progress" / "stop").touch()
            wait(self.hand, timeout=_PATIENCE)
        for future in [future for future in self.hand if future.done()]:
            self._take(future, self.hand.pop(future))
        self.hand.clear()

    def _take(self, future: Future[Outcome], task: Task) -> None:
        try:
            outcome = future.result()
        except self.engine.lost as error:
            self._lost(task, error)
            return
        self._note(*outcome.notes)
        if isinstance(outcome.found, Failure):
            self._fail(task, outcome.found)
        elif outcome.found is not None:
            self.book.keep(outcome.found, outcome.seconds)
            self.progress.finished[self._key(task)] = outcome.found

    def _lost(self, task: Task, error: BaseException) -> None:
        arm, seed = self._key(task)
        self.losses[task] += 1
        if self.losses[task] <= _AGAIN:
            self._note(f"the worker of {arm}, seed {seed}, died; the run is tried again")
            self.waiting.appendleft(task)
        else:
            self._fail(task, Failure(f"its worker died {self.losses[task]} times (out of memory, or killed)", f"{error}\n"))

    def _fail(self, task: Task, failure: Failure) -> None:
        arm, seed = self._key(task)
        self.progress.failed[arm, seed] = failure.error
        self.alike[re.sub(r"\d+", "", failure.error)] += 1
        self._log(f"{arm}, seed {seed}:\n{failure.trace}")
        self.book.fail(self.progress.arms[task[0]], seed, failure.error)

    def _glance(self, task: Task) -> None:
        report = last_report(self.folder, *task)
        if report is not None:
            self.progress.epoch[self._key(task)], self.progress.loss[self._key(task)] = report

    def _key(self, task: Task) -> tuple[str, int]:
        return self.progress.arms[task[0]].name, task[1]

    def _note(self, *notes: str) -> None:
        for note in notes:
            if note not in self.progress.notes:
                self.progress.notes.append(note)
                self._log(note + "\n")

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), (self.folder / "worker.log").open("a", encoding="utf-8") as log:
            log.write(text)


def _complaint(progress: Progress, folder: Path) -> str:
    named = [f"{arm}, seed {seed} failed: {error}" for (arm, seed), error in progress.failed.items()]
    more = f"; and {len(named) - 3} more" if len(named) > 3 else ""
    left = len(progress.arms) * len(progress.seeds) - len(progress.finished) - len(named)
    rest = f" {left} runs were not begun or not finished, because {_ALIKE} failed alike." if left else ""
    return (f"{'; '.join(named[:3])}{more}.{rest} {len(progress.finished)} runs are finished and kept. Tracebacks are in "
            f"{folder / 'worker.log'}; once the cause is mended, run the same command to go on.")


def clear(folder: Path) -> None:
    """Empty the progress folder, and take away what is of no use: half-written checkpoints, and an empty log."""
    place = folder / "progress"
    place.mkdir(exist_ok=True)
    for file in (*place.iterdir(), *(folder / "checkpoints").glob(".*.part")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # there is none, or checkpoints are left in it
        (folder / "checkpoints").rmdir()
    log = folder / "worker.log"
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
