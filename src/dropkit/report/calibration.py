"""The reliability diagrams: how often an arm is right when it says how sure it is."""

from __future__ import annotations

import math
from typing import Any

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.study.result import Bin, Run, StudyResult


def pooled(runs: list[Run]) -> list[Bin]:
    """Add up the reliability bins of several runs, weighting each run's means by its counts.

    Args:
        runs: the runs; those without bins add nothing.

    Returns:
        One `Bin` for each pair of edges that occurs, in rising order.
    """
    edges = sorted({(bar.low, bar.high) for run in runs for bar in run.reliability or []})
    return [_pool(low, high, [bar for run in runs for bar in run.reliability or [] if (bar.low, bar.high) == (low, high)])
            for low, high in edges]


def has_reliability(result: StudyResult, arm: str) -> bool:
    """Say whether any run of ``arm`` has counts for a reliability diagram."""
    return any(bar.count for run in result.of_arm(arm) for bar in run.reliability or [])


def reliability(result: StudyResult, arm: str) -> Any:
    """Draw one arm's accuracy against its confidence, pooled over seeds, over a histogram of the confidences.

    Args:
        result: the study.
        arm: the arm's name.

    Returns:
        A plotly figure of three traces: the diagonal, the accuracies, the shares of predictions.
    """
    return diagram(pooled(result.of_arm(arm)), [other.name for other in result.arms].index(arm))


def diagram(bins: list[Bin], index: int = 0, **layout: Any) -> Any:
    """Draw accuracy against confidence over a histogram of the confidences.

    Args:
        bins: of rising confidence.
        index: of the colour and the marker.
        layout: entries that add to the figure's layout or replace its own.

    Returns:
        A plotly figure of three traces: the diagonal, the accuracies, the shares of predictions.
    """
    filled = [bar for bar in bins if bar.count and bar.confidence is not None and bar.accuracy is not None]
    total = sum(bar.count for bar in bins) or 1
    traces = [_diagonal(), _accuracies(filled, index), _shares(bins, index, total)]
    square = {"tickvals": [0, 0.5, 1], "tickformat": ".0%"}
    return figure(traces, look.layout(350, **{
        "xaxis": look.axis("confidence", **square, range=[-0.02, 1.02], anchor="y2"),
        "yaxis": look.axis("accuracy", **square, range=[-0.02, 1.04], domain=[0.28, 1]),
        "yaxis2": look.axis("share", domain=[0, 0.2], tickformat=".0%", nticks=3, rangemode="tozero"), **layout}))


def _pool(low: float, high: float, bars: list[Bin]) -> Bin:
    full = [(bar.count, bar.confidence, bar.accuracy) for bar in bars
            if bar.count and bar.confidence is not None and bar.accuracy is not None]
    count = sum(weight for weight, _, _ in full)
    if not count:
        return Bin(low, high, 0, None, None)
    return Bin(low, high, count, math.fsum(weight * value for weight, value, _ in full) / count,
               math.fsum(weight * value for weight, _, value in full) / count)


def _diagonal() -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "name": "perfect", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
            "line": {"color": look.GREY, "width": 1.5, "dash": "dash"}}


def _accuracies(bins: list[Bin], index: int) -> dict[str, Any]:
    hover = [f"confidence {bar.confidence:.1%}, accuracy {bar.accuracy:.1%}<br>{bar.count:,} predictions" for bar in bins]
    return {"type": "scatter", "mode": "lines+markers", "name": "accuracy", "hovertext": hover, "hoverinfo": "text",
            "x": [_digits(bar.confidence) for bar in bins], "y": [_digits(bar.accuracy) for bar in bins],
            "cliponaxis": False, "line": {"color": look.colour(index), "width": 2},
            "marker": {"symbol": look.marker(index), "size": 8}}


def _shares(bins: list[Bin], index: int, total: int) -> dict[str, Any]:
    hover = [f"{bar.low:.0%} to {bar.high:.0%}: {bar.count:,} predictions ({bar.count / total:.1%})" for bar in bins]
    return {"type": "bar", "name": "share of predictions", "yaxis": "y2", "hovertext": hover, "hoverinfo": "text",
            "x": [_digits((bar.low + bar.high) / 2) for bar in bins], "y": [_digits(bar.count / total) for bar in bins],
            "width": [_digits((bar.high - bar.low) * 0.92) for bar in bins], "textposition": "none",
            "marker": {"color": look.veil(index, 0.6)}}


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
