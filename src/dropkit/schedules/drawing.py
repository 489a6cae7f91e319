"""Pictures of rates over steps: in text for terminals, and as SVG or PNG by matplotlib."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from dropkit.core.errors import InputError, MissingExtraError

_LABEL = 7  # columns of the rates' labels
_NARROWEST, _LOWEST = 40, 4
_BLUE, _GREY = "#1f5fb4", "#666666"


def draw_text(values: Sequence[float], width: int = 80, height: int = 15) -> str:
    """Rates over steps as a line in text, with axes.

    Args:
        values: the rate at each step from 0 on, at least two.
        width: columns, at least 40.
        height: rows of the plot, at least 4; a few more or less, so that labels fall on rows.

    Raises:
        InputError: for a picture too small to read.

    Example:
        >>> print(draw_text([0.2, 0.2, 0.1, 0.1], width=40, height=4))
            0.2 ┼────────────────────╮
                │                    │
            0.1 ┤                    ╰──────────
                │
              0 ┼───────────────────────────────
                 0                             3
                                            step
    """
    if width < _NARROWEST or height < _LOWEST:
        raise InputError(f"a picture has at least {_NARROWEST} columns and {_LOWEST} rows", got=(width, height),
                         fix="Make it larger")
    ticks = _ticks(max(values), min(height // 2, 5))
    rows_a_tick = max(height // (len(ticks) - 1), 2)
    top, columns = rows_a_tick * (len(ticks) - 1), width - _LABEL - 2
    canvas = _curve([value / ticks[-1] * top for value in values], columns, top)
    lines = []
    for row in range(top, -1, -1):
        label = f"{ticks[row // rows_a_tick]:g}" if row % rows_a_tick == 0 else ""
        edge = "┼" if row in (0, top) else "┤" if label else "│"
        lines.append(f"{label:>{_LABEL}} {edge}{''.join(canvas[row])}".rstrip())
    return "\n".join([*lines, *_step_axis(len(values) - 1, columns)])


def draw_image(title: str, values: Sequence[float], kind: str) -> bytes:
    """Rates over steps as an image file; the same values give the same bytes.

    Args:
        title: above the picture.
        values: the rate at each step from 0 on, at least two.
        kind: ``"svg"`` or ``"png"``.

    Returns:
        The file's content.

    Raises:
        MissingExtraError: matplotlib is not installed.

    Example:
        >>> draw_image("half", [0.5, 0.5], "png")[1:4]
        b'PNG'
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MissingExtraError("matplotlib", "plot") from error
    lines = textwrap.wrap(title, 76)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, "svg.hashsalt": "dropkit"}):  # no style of the user's, no chance
        figure = Figure(figsize=(7.2, 3.2 + 0.2 * len(lines)), dpi=150, layout="constrained", facecolor="white")
        _plot(figure.add_subplot(), "\n".join(lines), values)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _plot(axes: Any, title: str, values: Sequence[float]) -> None:
    axes.step(range(len(values)), values, where="post", color=_BLUE, linewidth=1.8, clip_on=False, zorder=3)
    axes.set_title(title, fontsize=10, family="monospace", loc="left", pad=10)
    axes.set_xlabel("step", color=_GREY)
    axes.set_ylabel("rate", color=_GREY)
    axes.set_xlim(0, len(values) - 1)
    ticks = _ticks(max(values), 5)
    axes.set_ylim(0, ticks[-1] * 1.03)
    axes.set_yticks(ticks)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_GREY, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#aaaaaa")


def _ticks(most: float, count: int) -> list[float]:
    """Round numbers from 0 to at least ``most``, at most ``count`` steps of 1, 2 or 5 times a power of ten apart."""
    if most <= 0.0:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most / count))
    gap = next(size * power for size in (1, 2, 5, 10) if size * power * count >= most * (1 - 1e-9))
    return [round(i * gap, 12) for i in range(math.ceil(most / gap - 1e-9) + 1)]


def _curve(heights: Sequence[float], columns: int, top: int) -> list[list[str]]:
    """A line of box characters; the rate of a column's last step is where the line leaves it."""
    canvas = [[" "] * columns for _ in range(top + 1)]
    canvas[0] = ["─"] * columns  # the axis, where the curve is not
    rows = [min(round(height), top) for height in heights]
    last = len(rows) - 1
    before, start = rows[0], 0
    for column in range(columns):
        end = column * last // (columns - 1)
        part = rows[start:end + 1]
        _draw_column(canvas, column, before, rows[end], min(part, default=before), max(part, default=before))
        before, start = rows[end], end
    return canvas


def _draw_column(canvas: list[list[str]], column: int, before: int, after: int, low: int, high: int) -> None:
    if low < min(before, after) or high > max(before, after):  # up and down within the column
        for row in range(low, high + 1):
            canvas[row][column] = "│"
        return
    for row in range(min(before, after) + 1, max(before, after)):
        canvas[row][column] = "│"
    if before == after:
        canvas[after][column] = "─" if after else "━"
    else:
        canvas[before][column] = "╯" if after > before else "╮"
        canvas[after][column] = "╭" if after > before else "╰"


def _step_axis(last: int, columns: int) -> list[str]:
    labels = [" "] * (columns + 1)
    parts = 4 if last >= 4 and columns >= 60 else 1
    for i in range(parts + 1):
        text, place = str(round(last * i / parts)), round((columns - 1) * i / parts)
        start = min(max(place - len(text) // 2, 0), columns - len(text))
        labels[start:start + len(text)] = text
    indent = " " * (_LABEL + 2)
    return [(indent + "".join(labels)).rstrip(), indent + "step".rjust(columns)]
