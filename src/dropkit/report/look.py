"""What the figures share: an arm's colour and marker, safe labels, the plain layout.

An arm is told apart by colour AND marker, what a curve measures by its dash, so that neither needs the other. Backgrounds are
transparent and lines without an arm are a mid grey, legible on white and on black; the page sets the text's colour.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

# Okabe and Ito, "Color Universal Design" (2008), without black and yellow, which vanish on black and on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon")  # 7: coprime with 6 colours
GREY = "rgb(128,134,142)"
FAINT = "rgba(128,134,142,0.45)"
GRID = "rgba(128,134,142,0.22)"
BAND = "rgba(128,134,142,0.18)"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif'
LABEL_LENGTH = 22


def colour(index: int) -> str:
    """Return the colour of arm number ``index``.

    Example:
        >>> colour(0), colour(6)
        ('#0072B2', '#0072B2')
    """
    return COLOURS[index % len(COLOURS)]


def veil(index: int, opacity: float) -> str:
    """Return the colour of arm number ``index``, see-through.

    Example:
        >>> veil(0, 0.15)
        'rgba(0,114,178,0.15)'
    """
    red, green, blue = bytes.fromhex(colour(index)[1:])
    return f"rgba({red},{green},{blue},{opacity})"


def marker(index: int) -> str:
    """Return the marker of arm number ``index``.

    Example:
        >>> marker(0), marker(6)
        ('circle', 'hexagon')
    """
    return MARKERS[index % len(MARKERS)]


def shorten(text: str, limit: int = LABEL_LENGTH) -> str:
    """Put ``text`` on one line and take out its middle where it is longer than ``limit``.

    Example:
        >>> shorten("encoder.layers.0.dropout without warm-up", 20)
        'encoder.l…t warm-up'
    """
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    head = (limit - 1) // 2
    return f"{line[:head].rstrip()}…{line[len(line) - (limit - 2 - head):]}"


def short_names(names: Sequence[str], limit: int = LABEL_LENGTH) -> list[str]:
    """Shorten names for the figures so that they stay apart: by where they differ, by their number in the last resort.

    Example:
        >>> short_names(["none", "without layers.1.dropout_after_mlp", "without layers.2.dropout_after_mlp"], 20)
        ['none', '…ut layers.1.dropou…', '…ut layers.2.dropou…']
    """
    short = [shorten(name, limit) for name in names]
    alike = Counter(short)
    groups = {text: [" ".join(name.split()) for name, other in zip(names, short, strict=True) if other == text]
              for text in alike}
    apart = [_around(" ".join(name.split()), groups[text], limit) if alike[text] > 1 else text
             for name, text in zip(names, short, strict=True)]
    seen = Counter(apart)
    return [f"{text} ({index + 1})" if seen[text] > 1 else text for index, text in enumerate(apart)]


def _around(line: str, group: Sequence[str], limit: int) -> str:
    """Return the part of ``line`` about where it first differs from the others of ``group``."""
    start = max(0, _agree(min(group), max(group)) - limit // 2)
    part = line[start:start + limit - 2]
    return f"{'…' if start else ''}{part}{'…' if start + len(part) < len(line) else ''}"


def _agree(one: str, other: str) -> int:
    """Return how many characters two texts share from the start; of a sorted group, the ends share the least."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def label(text: str) -> str:
    """Make a user's text safe where plotly reads HTML-like tags and ``%{...}`` fields in it.

    Example:
        >>> label("<b>50%</b>")
        '&lt;b&gt;50&#37;&lt;/b&gt;'
    """
    line = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    return html.escape(line, quote=False).replace("%", "&#37;")


def wrapped(text: str, width: int) -> str | None:
    """Break a short name over lines for a narrow place under an axis, safe for plotly; None where a part of it is too wide.

    A name is broken at spaces and behind the marks that join names and values.

    Example:
        >>> wrapped("without dropout", 8), wrapped("weight_decay=0.001", 11), wrapped("indivisible", 8)
        ('without<br>dropout', 'weight_<br>decay=0.001', None)
    """
    lines = [""]
    for part in re.findall(r"[^\s_=,/+:-]*[\s_=,/+:-]?", text)[:-1]:  # the last match is empty
        if len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    fits = max(len(line.rstrip()) for line in lines) <= width
    return "<br>".join(label(line.strip()) for line in lines if line.strip()) or label(text) if fits else None


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return the layout that every figure starts from.

    Args:
        height: pixels; the width is that of the place it is drawn in.
        more: entries that add to the common ones or replace them.
    """
    return {
        "template": "none",
        "autosize": True,
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": GREY},
        "showlegend": False,
        "dragmode": False,  # a finger that scrolls the page must not zoom a figure
        "hoverlabel": {"namelength": -1, "font": {"family": FONT, "size": 13}},
        **more,
    }


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return a quiet axis: thin grid, no frame, room for its own labels.

    Args:
        title: shown along the axis; a user's text in it must have passed `label`.
        more: entries that add to the common ones or replace them.
    """
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "automargin": True,
        "gridcolor": GRID,
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "nticks": 6,
        "tickfont": {"size": 12},
        **more,
    }


def span(values: Sequence[float], pad: float = 0.06) -> list[float]:
    """Return an axis range around ``values`` with room at both ends, never of zero length.

    Example:
        >>> span([0.0, 10.0], pad=0.1), span([2.0])
        ([-1.0, 11.0], [1.8, 2.2])
    """
    if not values:
        return [0.0, 1.0]
    low, high = min(values), max(values)
    room = (high - low) * pad or abs(high) * 0.1 or 0.5
    return [low - room, high + room]
