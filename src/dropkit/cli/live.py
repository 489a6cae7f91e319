"""A study's progress on a terminal: arms x seeds, and the time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dropkit.study.progress import Lines
from dropkit.study.runner import Progress


class Watcher(Protocol):
    """An observer that is opened and closed, and remembers how much is finished."""

    finished: int
    total: int

    def update(self, progress: Progress) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class _Counting:
    finished, total = 0, 0

    def update(self, progress: Progress) -> None:
        self.finished, self.total = len(progress.finished), len(progress.arms) * len(progress.seeds)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class LogWatcher(_Counting):
    """A line a finished run, for logs and pipes."""

    def __init__(self) -> None:
        self._lines = Lines()

    def update(self, progress: Progress) -> None:
        """Print what has finished since the last call."""
        super().update(progress)
        self._lines.update(progress)


class TableWatcher(_Counting):
    """A table that is drawn again as runs go on, for terminals."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=5, transient=True)
        self._started: tuple[float, float] | None = None
        self._open = False

    def update(self, progress: Progress) -> None:
        """Draw the table again."""
        super().update(progress)
        if self._started is None:
            self._started = time.monotonic(), progress.share
        if not self._open:
            self._live.start()
            self._open = True
        self._live.update(Group(_table(progress), Text(_time_left(progress.share, *self._started), style="dim"),
                                *(Text(f"note: {note}", style="yellow") for note in progress.notes[-3:])))

    def close(self) -> None:
        """Take the table away."""
        if self._open:
            self._live.stop()
            self._open = False


def observer() -> LogWatcher | TableWatcher:
    """Return the table for a terminal, plain lines otherwise."""
    console = Console(stderr=True)
    return TableWatcher(console) if sys.stderr.isatty() and console.is_terminal else LogWatcher()


def _table(progress: Progress) -> Table:
    table = Table(title="test score, or epoch and training loss", title_style="dim", title_justify="left")
    table.add_column("seed", justify="right")
    for arm in progress.arms:
        table.add_column(arm.name, justify="right", min_width=14)
    for seed in progress.seeds:
        table.add_row(str(seed), *(_cell(progress, arm.name, seed) for arm in progress.arms))
    return table


def _cell(progress: Progress, arm: str, seed: int) -> Text:
    key = arm, seed
    if key in progress.finished:
        run = progress.finished[key]
        style = "bold" if run.status == "finished" else "red"
        return Text(f"{run.test_metric:.4g}" if run.status == "finished" else "diverged", style=style)
    if key in progress.failed:
        return Text("failed", style="red")
    if key in progress.epoch:
        return Text(f"{progress.epoch[key]}/{progress.epochs}  {progress.loss[key]:.3g}", style="cyan")
    return Text("·", style="dim")


def _time_left(share: float, began: float, already: float) -> str:
    gained, spent = share - already, time.monotonic() - began
    if gained <= 0:
        return f"{share:.0%} done. Ctrl-C stops; the same command goes on from there."
    left = spent / gained * (1 - share)
    return f"{share:.0%} done, about {left:.0f} s left. Ctrl-C stops; the same command goes on from there."
