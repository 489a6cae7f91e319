"""Hand runs to an engine, keep what they finish, try again what is lost, and tell an observer how far they are."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dropkit.core.errors import DropkitError
from dropkit.study.engines.choice import Engine
from dropkit.study.interrupts import PATIENCE, taken_when_due
from dropkit.study.result import Arm, Run
from dropkit.study.worker import Failure, Outcome, Unit, last_report

GLANCE = 0.2
"""Seconds between two looks at what workers do."""

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


def run_tasks(tasks: Sequence[Unit], engine: Engine, folder: Path, progress: Progress, observer: Observer, book: Book) -> None:
    """Train ``tasks`` on ``engine``, which is closed at the end.

    A run whose worker is lost is tried again, twice at most, from its last checkpoint. One that raises is not; the others go
    on, unless three fail alike. The runs of a batch that fails are trained one by one.

    Args:
        tasks: the runs to train, one or several at once, begun in this order.
        engine: takes them.
        folder: the study's folder, for progress files and the workers' log.
        progress: brought up to date as runs go on.
        observer: shown ``progress``.
        book: told in this process of each finished and failed run.

    Raises:
        RunError: runs failed; it names them.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once runs have had a moment for a last checkpoint; at once after a second.
    """
    shift = _Shift(engine, folder, progress, book, deque(tasks))
    try:
        with taken_when_due(shift.ask_to_stop) as due:
            while shift.waiting or shift.hand:
                shift.hand_out()
                shift.collect(GLANCE)
                observer.update(progress)
                due()
    except BaseException:  # a study that cannot go on, as one that must not, lets its runs write a checkpoint
        with contextlib.suppress(DropkitError):
            shift.wind_down()
        observer.update(progress)  # what has been kept meanwhile counts, too
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
    waiting: deque[Unit]
    hand: dict[Future[Outcome], Unit] = field(default_factory=dict)
    losses: Counter[Unit] = field(default_factory=Counter)
    alike: Counter[str] = field(default_factory=Counter)

    def hand_out(self) -> None:
        """Fill the engine's slots, unless failures alike have shown that there is no point."""
        if any(count >= _ALIKE for count in self.alike.values()):
            self.waiting.clear()
            self.wind_down()
        while self.waiting and len(self.hand) < self.engine.slots:
            unit = self.waiting.popleft()
            self.hand[self.engine.submit(unit)] = unit

    def collect(self, seconds: float) -> None:
        """Wait for runs to end, at most for ``seconds``, and look how far the others are."""
        done, _ = wait(self.hand, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future, self.hand.pop(future))
        for unit in self.hand.values():
            self._glance(unit)

    def wind_down(self) -> None:
        """Ask the runs in hand to stop, and take what ends in a moment."""
        if self.hand and self.ask_to_stop():
            wait(self.hand, timeout=PATIENCE)
        for future in [future for future in self.hand if future.done()]:
            self._take(future, self.hand.pop(future))
        self.hand.clear()

    def ask_to_stop(self) -> bool:
        """Ask every run to stop after a checkpoint; on a full disk, which has no room for one either, return False."""
        try:
            (self.folder / "progress" / "stop").touch()
        except OSError:
            return False
        return True

    def _take(self, future: Future[Outcome], unit: Unit) -> None:
        try:
            outcome = future.result()
        except self.engine.lost as error:
            self._lost(unit, error)
            return
        self._note(*outcome.notes)
        if isinstance(outcome.found, Failure):
            self._fail(unit, outcome.found)
            return
        for run in outcome.found or ():
            if (run.arm, run.seed) not in self.progress.finished:  # a batch that was broken off is trained whole again
                self.book.keep(run, outcome.seconds / len(unit))
                self.progress.finished[run.arm, run.seed] = run

    def _lost(self, unit: Unit, error: BaseException) -> None:
        if (self.folder / "progress" / "stop").exists():  # it was stopped along with the study, and is not tried again
            return
        self.losses[unit] += 1
        if self.losses[unit] <= _AGAIN:
            again = "the run is tried again" if len(unit) == 1 else "the runs are tried again"
            self._note(f"the worker of {self._words(unit)}, died; {again}")
            self.waiting.appendleft(unit)
        else:
            self._fail(unit, Failure(f"its worker died {self.losses[unit]} times (out of memory, or killed)", f"{error}\n"))

    def _fail(self, unit: Unit, failure: Failure) -> None:
        if len(unit) > 1:  # one run's fault is not to be the others' loss
            self._note(f"the batch of {self._words(unit)}, failed ({failure.error}); its runs are trained one by one")
            self.waiting.extendleft((task,) for task in reversed(unit))
            return
        (index, seed), = unit
        self.alike[re.sub(r"\d+", "", failure.error)] += 1
        self._log(f"{self._words(unit)}:\n{failure.trace}")
        self.progress.failed[self.progress.arms[index].name, seed] = failure.error
        self.book.fail(self.progress.arms[index], seed, failure.error)

    def _glance(self, unit: Unit) -> None:
        for arm, seed in unit:
            report = last_report(self.folder, arm, seed)
            if report is not None:
                key = self.progress.arms[arm].name, seed
                self.progress.epoch[key], self.progress.loss[key] = report

    def _words(self, unit: Unit) -> str:
        arms, seeds = (list(dict.fromkeys(values)) for values in zip(*unit, strict=True))
        names = " + ".join(self.progress.arms[arm].name for arm in arms)
        return f"{names}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"

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
    were = "run was" if left == 1 else "runs were"
    rest = f" {left} {were} not begun or not finished, because {_ALIKE} failed alike." if left else ""
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
