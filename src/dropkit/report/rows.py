"""Figures of rows: a label above each, small points for the seeds, a large marker for the mean, a bar for its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.report.numbers import Scale, known

ROW = 62  # pixels for a row with its label above it
LINE = 16  # pixels for a second line of labels
NAME = 18  # characters of a name that fit on a phone together with its numbers


@dataclass(frozen=True)
class Row:
    """A row of differences: its label, the number that colours it, a difference a seed, their mean and its interval."""

    name: str
    index: int
    differences: Sequence[float]
    seeds: Sequence[int]
    mean: float
    low: float | None
    high: float | None

    def label(self, scale: Scale) -> str:
        """Write the name with the mean and its interval."""
        numbers = scale.signed(self.mean)
        if self.low is not None and self.high is not None:
            numbers += f" [{scale.signed(self.low)}, {scale.signed(self.high)}]"
        return f"{look.label(self.name)}{'<br>' if len(self.name) > NAME else '  '}{numbers}"


def rows_figure(rows: Sequence[Row], scale: Scale, margin: float, ends: tuple[str, str]) -> Any:
    """Draw differences with their intervals, the zero line and the margin as a band.

    Args:
        rows: one a difference.
        scale: the metric's.
        margin: half the band's width, in the metric's unit.
        ends: what left and right of zero mean.

    Returns:
        A plotly figure with two traces a row: the seeds' differences, and the mean with its interval.
    """
    band = scale.drawn(margin) or 0.0
    traces = [trace for place, row in enumerate(rows) for trace in _traces(row, place, scale)]
    values = [value for row in rows for value in (*row.differences, row.low, row.high)]
    reach = look.span([*known(scale.drawn(value) for value in values), -band, band, 0.0], 0.08)
    title = "difference (percentage points)" if scale.share else f"difference in {look.shorten(scale.metric)}"
    layout = rows_layout([row.label(scale) for row in rows], look.axis(look.label(title), range=reach), top=50)
    layout["shapes"] = [shape for place in range(len(rows)) for shape in (_band(band, place), zero_line(place))]
    layout["annotations"] += [_corner(text, side) for side, text in enumerate(ends)]
    return figure(traces, layout)


def rows_layout(labels: list[str], values: dict[str, Any], top: int = 8) -> dict[str, Any]:
    """Return the layout of rows with their labels above them.

    Args:
        labels: safe for plotly.
        values: the horizontal axis.
        top: pixels above the first row.
    """
    count = max(1, len(labels))
    notes = [{"xref": "paper", "x": 0, "xanchor": "left", "y": row, "yanchor": "bottom", "yshift": 13, "text": text,
              "showarrow": False, "align": "left", "name": "row", "font": {"size": 12.5}, "borderpad": 1}
             for row, text in enumerate(labels)]
    rows = look.axis(range=[count - 0.4, -0.62], showticklabels=False, showgrid=False, fixedrange=True)
    values = {**values, "showgrid": False, "ticks": "outside", "ticklen": 5, "tickcolor": look.GREY, "showline": True,
              "linecolor": look.GRID}
    height = ROW + LINE * any("<br>" in text for text in labels)
    return look.layout(height * count + 66 + top, margin={"l": 12, "r": 12, "t": top, "b": 8},
                       xaxis=values, yaxis=rows, annotations=notes)


def row_points(values: list[float | None], row: int, index: int, hover: list[str]) -> dict[str, Any]:
    """Return a row's small points, one a seed."""
    return {"type": "scatter", "mode": "markers", "name": "seeds", "x": values, "y": [row + 0.24] * len(values),
            "text": hover, "hoverinfo": "text",
            "marker": {"symbol": look.marker(index), "size": 7, "color": look.veil(index, 0.6)}}


def row_mean(value: float | None, row: int, index: int, hover: str) -> dict[str, Any]:
    """Return a row's large marker."""
    return {"type": "scatter", "mode": "markers", "name": "mean", "x": [value], "y": [row], "hovertext": hover,
            "hoverinfo": "text", "cliponaxis": False,
            "marker": {"symbol": look.marker(index), "size": 13, "color": look.colour(index)}}


def zero_line(row: int) -> dict[str, Any]:
    """Return the line at zero through a row."""
    return {"type": "line", "xref": "x", "yref": "y", "x0": 0, "x1": 0, "y0": row - 0.2, "y1": row + 0.42,
            "line": {"color": look.GREY, "width": 1.5}, "layer": "below"}


def _traces(row: Row, place: int, scale: Scale) -> list[dict[str, Any]]:
    hover = [f"seed {seed}: {scale.difference(value)}" for seed, value in zip(row.seeds, row.differences, strict=False)]
    points = row_points([scale.drawn(value) for value in row.differences], place, row.index, hover)
    told = scale.difference(row.mean)
    if row.low is None or row.high is None:
        return [points, row_mean(scale.drawn(row.mean), place, row.index, f"mean {told}")]
    told += f" (95 % interval {scale.interval(row.low, row.high)})"
    bar = row_mean(scale.drawn(row.mean), place, row.index, f"mean {told}")
    bar["error_x"] = {"type": "data", "symmetric": False, "array": [(row.high - row.mean) * scale.factor],
                      "arrayminus": [(row.mean - row.low) * scale.factor], "thickness": 3, "width": 7,
                      "color": look.colour(row.index)}
    return [points, bar]


def _band(margin: float, row: int) -> dict[str, Any]:
    return {"type": "rect", "xref": "x", "yref": "y", "x0": -margin, "x1": margin, "y0": row - 0.19, "y1": row + 0.42,
            "fillcolor": look.BAND, "line": {"width": 0}, "layer": "below"}


def _corner(text: str, side: int) -> dict[str, Any]:
    return {"xref": "paper", "yref": "paper", "x": side, "y": 1, "xanchor": ("left", "right")[side], "yanchor": "bottom",
            "text": text, "showarrow": False, "font": {"size": 12}}
