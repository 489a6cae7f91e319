"""The figures about scores: each run, each contrast, each arm's gap. Pure functions from a result to a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dropkit.report import look, words
from dropkit.report.extras import figure
from dropkit.report.numbers import Scale, known, mean
from dropkit.report.rows import Row, row_mean, row_points, rows_figure, rows_layout, zero_line
from dropkit.study.effects import Effect
from dropkit.study.result import Run, StudyResult

UPRIGHT = 4  # with more arms than this, names no longer fit side by side on a phone
_WIDTHS = {1: 22, 2: 16, 3: 11, 4: 8}  # characters that an arm's name then has there, by the number of arms


def paired(result: StudyResult) -> Any:
    """Draw each run's test metric: a line a seed over the arms, and the mean of each arm.

    Up to four arms stand side by side; more, and those whose names are too wide for that, lie below one another, with the
    metric along the horizontal axis.

    Args:
        result: the study.

    Returns:
        A plotly figure with a trace of the seeds' lines, then two an arm: its runs and its mean.
    """
    scale = Scale.of(result.summary)
    traces = [_seed_lines(result, scale)]
    for index, arm in enumerate(result.arms):
        traces += _arm_points(result.of_arm(arm.name), index, scale, arm.name)
    names = look.short_names([arm.name for arm in result.arms])
    values = known(scale.drawn(run.test_metric) for run in result.runs)
    title = look.label(scale.axis(f"test {look.shorten(scale.metric)}"))
    means = [scale.value(mean(run.test_metric for run in result.of_arm(arm.name))) for arm in result.arms]
    folded = [look.wrapped(name, _WIDTHS[len(names)]) for name in names] if len(names) <= UPRIGHT else [None]
    if None not in folded:
        return figure(traces, _upright_layout(folded, means, look.axis(title, range=look.span(values, 0.08))))
    labels = [f"{look.label(name)}  {text}" for name, text in zip(names, means, strict=True)]
    return figure([_turned(trace) for trace in traces], rows_layout(labels, look.axis(title, range=look.span(values))))


def forest(result: StudyResult) -> Any:
    """Draw each contrast's mean difference with its 95 % interval, the zero line and the margin as a band.

    Args:
        result: the study; its contrasts are oriented so that right of zero means the arm is better.

    Returns:
        A plotly figure with two traces a contrast: the seeds' differences, and the mean with its interval.
    """
    names = dict(zip((arm.name for arm in result.arms), _names(result), strict=True))
    several = len({contrast.reference for contrast in result.contrasts}) > 1
    rows = []
    for contrast in result.contrasts:
        name = names.get(contrast.arm, look.shorten(contrast.arm))
        against = f" against {look.shorten(contrast.reference, 12)}" if several else ""
        rows.append(Row(name + against, _arm_number(result, contrast.arm), contrast.differences, contrast.seeds,
                        contrast.mean, contrast.low, contrast.high))
    return rows_figure(rows, Scale.of(result.summary), result.summary.margin, ("← worse", "better →"))


def effects(result: StudyResult, found: Sequence[Effect]) -> Any:
    """Draw what each change of a factorial is worth, and how each two go together, like the contrasts.

    Args:
        result: the study.
        found: its effects.

    Returns:
        A plotly figure with two traces an effect: the seeds' differences, and the mean with its interval.
    """
    rows = [Row(words.effect_name(effect), _arm_number(result, effect.changes[0]), effect.differences, effect.seeds,
                effect.mean, effect.low, effect.high) for effect in found]
    return rows_figure(rows, Scale.of(result.summary), result.summary.margin, ("← worse", "better →"))


def gap(result: StudyResult) -> Any:
    """Draw each arm's generalisation gap: a point a seed and the mean.

    Args:
        result: the study.

    Returns:
        A plotly figure with two traces an arm that has a known gap: its runs and its mean.
    """
    scale = Scale.of(result.summary)
    traces: list[dict[str, Any]] = []
    labels = []
    for row, (arm, name) in enumerate(zip(result.arms, _names(result), strict=True)):
        runs = [run for run in result.of_arm(arm.name) if known([run.gap])]
        middle = mean(run.gap for run in runs)
        labels.append(f"{look.label(name)}  {scale.difference(middle)}")
        if middle is not None:
            points = [scale.drawn(run.gap) for run in runs]
            hover = [f"seed {run.seed}: {scale.difference(run.gap)}" for run in runs]
            traces += [row_points(points, row, row, hover), row_mean(scale.drawn(middle), row, row, labels[-1])]
    values = [*known(scale.drawn(run.gap) for run in result.runs), 0.0]
    title = "train minus test" if scale.higher_is_better else "test minus train"
    axis = look.axis(f"{title} ({'percentage points' if scale.share else look.label(look.shorten(scale.metric))})",
                     range=look.span(values))
    return figure(traces, {**rows_layout(labels, axis), "shapes": [zero_line(row) for row in range(len(labels))]})


def _names(result: StudyResult) -> list[str]:
    return look.short_names([arm.name for arm in result.arms])


def _arm_number(result: StudyResult, name: str) -> int:
    return next((index for index, arm in enumerate(result.arms) if arm.name == name), 0)


def _seed_lines(result: StudyResult, scale: Scale) -> dict[str, Any]:
    places: list[float | None] = []
    values: list[float | None] = []
    for seed in result.seeds:
        for index, arm in enumerate(result.arms):
            places.append(index)
            values.append(next((scale.drawn(run.test_metric) for run in result.runs
                                if run.arm == arm.name and run.seed == seed), None))
        places.append(None)  # a gap between one seed's line and the next
        values.append(None)
    return {"type": "scatter", "mode": "lines", "name": "seeds", "x": places, "y": values, "hoverinfo": "skip",
            "line": {"color": look.FAINT, "width": 1.2}}


def _arm_points(runs: list[Run], index: int, scale: Scale, name: str) -> list[dict[str, Any]]:
    middle = mean(run.test_metric for run in runs)
    symbols = [look.marker(index) + ("-open" if run.status == "diverged" else "") for run in runs]
    hover = [f"seed {run.seed}: {scale.value(run.test_metric)}{' (diverged)' if run.status == 'diverged' else ''}"
             for run in runs]
    points = {"type": "scatter", "mode": "markers", "name": look.label(name), "x": [index] * len(runs),
              "y": [scale.drawn(run.test_metric) for run in runs], "text": hover, "hoverinfo": "text",
              "marker": {"symbol": symbols, "size": 8, "color": look.veil(index, 0.75)}}
    if middle is None:
        return [points]
    bar = {"type": "scatter", "mode": "lines", "name": "mean", "x": [index - 0.2, index + 0.2],
           "y": [scale.drawn(middle)] * 2, "hovertext": f"mean {scale.value(middle)}", "hoverinfo": "text",
           "line": {"color": look.colour(index), "width": 4}}
    return [points, bar]


def _turned(trace: dict[str, Any]) -> dict[str, Any]:
    return {**trace, "x": trace["y"], "y": trace["x"]}


def _upright_layout(names: Sequence[str | None], means: list[str], values: dict[str, Any]) -> dict[str, Any]:
    texts = [f"{name}<br><b>{text}</b>" for name, text in zip(names, means, strict=True)]
    places: dict[str, Any] = {"tickvals": list(range(len(names))), "ticktext": texts, "tickangle": 0, "tickfont": {"size": 13},
              "range": [-0.45, len(names) - 0.55], "showgrid": False, "fixedrange": True}
    return look.layout(360, xaxis=look.axis(**places), yaxis=values)
