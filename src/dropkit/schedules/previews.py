"""A look at a schedule before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from dropkit.core.errors import InputError
from dropkit.core.files import write_atomically
from dropkit.schedules.base import Schedule, check_count
from dropkit.schedules.drawing import draw_image, draw_text
from dropkit.schedules.rises import is_late_jump
from dropkit.schedules.text import read_schedule

_MOST = 1_000_000


@dataclass(frozen=True)
class Preview:
    """The rates of a schedule over a run, and pictures of them; ``print`` shows it as text.

    Args:
        schedule: which knows its length.
        steps: of the run.
    """

    schedule: Schedule
    steps: int

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The rates at steps 0, 1, ..., ``steps``: the last one is what the run ends with."""
        return tuple(self.schedule(step) for step in range(self.steps + 1))

    @property
    def late_jump(self) -> int | None:
        """The first step at which the rate jumps up late in the run, by more than 0.1, or None; models bear that badly."""
        pairs = enumerate(pairwise(self.values), start=1)
        return next((step for step, (before, after) in pairs if is_late_jump(before, after, step, self.steps)), None)

    def text(self, width: int = 80, height: int = 15) -> str:
        """The picture in text.

        Args:
            width: columns, at least 40.
            height: rows of the plot, at least 4.

        Raises:
            InputError: for a picture too small to read.
        """
        return draw_text(self.values, width, height)

    def image(self, kind: str = "svg") -> bytes:
        """The picture as the content of an image file, drawn by matplotlib.

        Args:
            kind: ``"svg"`` or ``"png"``.

        Raises:
            InputError: for another kind.
            MissingExtraError: matplotlib is not installed.
        """
        if kind not in ("svg", "png"):
            raise InputError("a picture is an svg or a png", got=kind, fix='Pass "svg" or "png"')
        return draw_image(repr(self.schedule), self.values, kind)

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file, which appears whole or not at all.

        Args:
            path: with the ending ``.svg`` or ``.png``.

        Raises:
            InputError: for another ending.
            MissingExtraError: matplotlib is not installed.
        """
        return write_atomically(path, self.image(Path(path).suffix.lower().removeprefix(".")))

    def __str__(self) -> str:
        return self.text()


def preview(schedule: Schedule | str | float, steps: int = 1000) -> Preview:
    """Look at a schedule over a run.

    Args:
        schedule: a schedule, its text, or a rate.
        steps: of the run, from 1 to a million; an open schedule stretches over them. Default: 1000.

    Raises:
        InputError: for what is no schedule, or another number of steps.

    Example:
        >>> preview("linear(0, 0.2)", steps=4).values
        (0.0, 0.05, 0.1, 0.15000000000000002, 0.2)
        >>> print(preview("linear(0, 0.2)", steps=40).text(width=50, height=4))
            0.2 ┼                                   ╭─────
                │                          ╭────────╯
            0.1 ┤               ╭──────────╯
                │      ╭────────╯
              0 ┼━━━━━━╯──────────────────────────────────
                 0                                      40
                                                      step
    """
    if check_count(steps, "steps") > _MOST:
        raise InputError(f"a preview has at most {_MOST} steps", got=steps, fix="Divide all numbers of steps by a thousand")
    return Preview(read_schedule(schedule).over(steps), steps)
