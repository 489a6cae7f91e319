"""The figures about learning: loss and metric over the epochs, with the mean, its band and every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.report.numbers import Scale, deviation, known, mean
from dropkit.study.result import Run, StudyResult

Measure = Literal["loss", "metric"]
DASHES = {"val": "solid", "train_eval": "dash", "train": "dot"}
KINDS = {"val": "validation", "train_eval": "training data, evaluation mode", "train": "training data, training mode"}
POINTS = 60_000  # over a whole page; more only makes it slow to open
FEWEST = 30  # epochs that thinning leaves
SEEDS = 24  # single seeds drawn for an arm


@dataclass(frozen=True)
class Bundle:
    """One quantity of one arm over the epochs.

    Args:
        epochs: the epochs drawn, from 1.
        finished: a list of values for each run that finished.
        diverged: a list of values for each run that did not.
    """

    epochs: list[int]
    finished: list[list[float | None]]
    diverged: list[list[float | None]]

    def middle(self) -> list[float | None]:
        """Return the mean over the finished runs, an epoch each."""
        return [mean(values) for values in self._columns()]

    def spread(self) -> list[float | None]:
        """Return the standard deviation over the finished runs, an epoch each; None under two runs."""
        return [deviation(values) for values in self._columns()]

    def edges(self) -> list[list[float | None]]:
        """Return the lower and the upper edge of the band; None at the epochs without one."""
        pairs = list(zip(self.middle(), self.spread(), strict=True))
        return [[None if centre is None or width is None else float(f"{centre + side * width:.6g}")
                 for centre, width in pairs] for side in (-1, 1)]

    def _columns(self) -> list[tuple[float | None, ...]]:
        return list(zip(*self.finished, strict=True)) if self.finished else [()] * len(self.epochs)


def epochs_drawn(result: StudyResult) -> list[int]:
    """Return the epochs that the figures show: all, or every k-th and the last where there would be too many points.

    Args:
        result: the study.

    Returns:
        Epoch numbers from 1, rising; empty when no run has a history.
    """
    count = max((len(values) for run in result.runs for values in run.history.values()), default=0)
    step = max(1, min(math.ceil(len(result.runs) * count * 8 / POINTS), count // FEWEST))
    return [epoch for epoch in range(1, count + 1) if (count - epoch) % step == 0]


def skipped(epochs: Sequence[int]) -> int:
    """Return how many epochs at the start the vertical axis need not hold: a fifth, none of a short training.

    Example:
        >>> skipped(range(1, 41)), skipped(range(1, 6))
        (8, 0)
    """
    return len(epochs) // 5 if len(epochs) >= 10 else 0


def bundle(result: StudyResult, arm: str, kind: str, measure: Measure) -> Bundle:
    """Collect one quantity of one arm.

    Args:
        result: the study.
        arm: the arm's name.
        kind: ``"val"``, ``"train_eval"`` or ``"train"``.
        measure: ``"loss"`` or ``"metric"``.
    """
    epochs = epochs_drawn(result)
    scale = Scale.of(result.summary)

    def values(run: Run) -> list[float | None]:
        raw = run.history.get(f"{kind}_{measure}", [])
        picked = [raw[epoch - 1] if epoch <= len(raw) else None for epoch in epochs]
        return [scale.drawn(value) if measure == "metric" else _loss(value) for value in picked]

    runs = result.of_arm(arm)
    return Bundle(epochs, [values(run) for run in runs if run.status != "diverged"],
                  [values(run) for run in runs if run.status == "diverged"])


def validation(result: StudyResult, measure: Measure) -> Any:
    """Draw the validation curves of all arms in one figure.

    Args:
        result: the study.
        measure: ``"loss"`` or ``"metric"``.

    Returns:
        A plotly figure; each trace's ``meta`` is its arm's number.
    """
    bundles = [bundle(result, arm.name, "val", measure) for arm in result.arms]
    reach = _reach(bundles)
    traces: list[dict[str, Any]] = []
    for index, (arm, curves) in enumerate(zip(result.arms, bundles, strict=True)):
        name = look.label(look.shorten(arm.name))
        traces += [{**trace, "meta": index} for trace in _traces(curves, "val", name, index, reach, fill=0.09)]
    return figure(traces, _layout(result, measure, reach, 380))


def learning(result: StudyResult, arm: str, measure: Measure) -> Any:
    """Draw one arm's validation curve with its training curves in training mode and in evaluation mode.

    The vertical axis spans what all arms need, so that the arms' figures compare.

    Args:
        result: the study.
        arm: the arm's name.
        measure: ``"loss"`` or ``"metric"``.

    Returns:
        A plotly figure; validation in the arm's colour, training in grey.
    """
    reach = _reach([bundle(result, other.name, kind, measure) for other in result.arms for kind in DASHES])
    index = [other.name for other in result.arms].index(arm)
    traces: list[dict[str, Any]] = []
    for kind in reversed(DASHES):
        traces += _traces(bundle(result, arm, kind, measure), kind, KINDS[kind], index if kind == "val" else None, reach)
    return figure(traces, _layout(result, measure, reach, 280))


def _loss(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _reach(bundles: Sequence[Bundle]) -> list[float]:
    """Return a range for what finished, after the first epochs: neither they nor a run that diverges flatten the rest."""
    start = skipped(bundles[0].epochs) if bundles else 0
    values = [value for item in bundles for run in [*item.finished, *item.edges()] for value in known(run[start:])]
    return look.span(values or [value for item in bundles for run in item.diverged for value in known(run)])


def _traces(curves: Bundle, kind: str, name: str, index: int | None, reach: list[float],
            fill: float = 0.16) -> list[dict[str, Any]]:
    solid = look.GREY if index is None else look.colour(index)
    faint = "rgba(128,134,142,0.22)" if index is None else look.veil(index, 0.28)
    veil = f"rgba(128,134,142,{fill})" if index is None else look.veil(index, fill)
    traces = [_singles(curves, faint, DASHES[kind]), *_band(curves, veil)]
    if curves.finished:
        traces.append({"type": "scatter", "mode": "lines+markers", "name": name, "x": curves.epochs,
                       "y": curves.middle(), "line": {"color": solid, "width": 2.5, "dash": DASHES[kind]},
                       "marker": _marks(kind, index, solid, len(curves.epochs)),
                       "hovertemplate": "%{y:.4~g}"})
    return [*traces, *_ends(curves, solid, reach)]


def _marks(kind: str, index: int | None, solid: str, epochs: int) -> dict[str, Any]:
    if index is None:  # dashes tell the kinds apart, but a single epoch has no line
        return {"color": solid, "size": 9 if epochs == 1 else 0.1,
                "symbol": "square-open" if kind == "train_eval" else "circle-open"}
    return {"color": solid, "size": 8, "symbol": look.marker(index), "maxdisplayed": 8}


def _singles(curves: Bundle, faint: str, dash: str) -> dict[str, Any]:
    epochs: list[int | None] = []
    values: list[float | None] = []
    for run in [*curves.finished[:SEEDS], *curves.diverged[:SEEDS]]:
        epochs += [*curves.epochs, None]
        values += [*run, None]
    return {"type": "scatter", "mode": "lines", "name": "seeds", "x": epochs, "y": values, "hoverinfo": "skip",
            "line": {"color": faint, "width": 1, "dash": dash}}


def _band(curves: Bundle, fill: str) -> list[dict[str, Any]]:
    rows = [row for row in zip(curves.epochs, *curves.edges(), strict=True) if None not in row]
    if not rows:
        return []
    epochs, lower, upper = (list(column) for column in zip(*rows, strict=True))
    outline = [*upper, *reversed(lower)]
    return [{"type": "scatter", "mode": "lines", "name": "band", "x": [*epochs, *reversed(epochs)], "y": outline,
             "fill": "toself", "fillcolor": fill, "line": {"width": 0}, "hoverinfo": "skip"}]


def _ends(curves: Bundle, solid: str, reach: list[float]) -> list[dict[str, Any]]:
    """Mark with a cross where each diverged run was last finite."""
    last = []
    for run in curves.diverged:
        seen = [(epoch, value) for epoch, value in zip(curves.epochs, run, strict=True) if value is not None]
        last += [(epoch, min(max(value, reach[0]), reach[1])) for epoch, value in seen[-1:]]
    if not last:
        return []
    return [{"type": "scatter", "mode": "markers", "name": "diverged", "x": [epoch for epoch, _ in last],
             "y": [value for _, value in last], "hovertext": "diverged here", "hoverinfo": "text", "cliponaxis": False,
             "marker": {"symbol": "x", "size": 9, "color": solid}}]


def _layout(result: StudyResult, measure: Measure, reach: list[float], height: int) -> dict[str, Any]:
    epochs = epochs_drawn(result) or [1]
    scale = Scale.of(result.summary)
    name = "loss" if measure == "loss" else look.label(scale.axis(look.shorten(scale.metric)))
    room = max(0.5, (epochs[-1] - 1) * 0.02)
    ticks = {"dtick": 1} if epochs[-1] <= 6 else {}
    return look.layout(height, hovermode="x unified", yaxis=look.axis(name, range=reach),
                       xaxis=look.axis("epoch", range=[1 - room, epochs[-1] + room], **ticks))
