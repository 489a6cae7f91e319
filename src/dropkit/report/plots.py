"""Figures about predictions and how sure they are: does uncertainty rise where errors are, and is confidence earned.

Each function returns a ``plotly.graph_objects.Figure``: show it in a notebook, or write it with ``write_html`` or
``write_image``. Backgrounds are transparent and the colours legible on white and on black.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.inference import scores
from dropkit.report import calibration, look
from dropkit.report.extras import figure
from dropkit.study import scores as counted

_POINTS = 4_000  # of a cloud; more hide each other and make a page slow
_STEPS = 400  # of a curve
_TOP = {"l": 8, "r": 12, "t": 44, "b": 8}


def uncertainty_error(uncertainty: Any, error: Any, bins: int = 10, *, name: str = "uncertainty") -> Any:
    """Draw the mean error over bins that hold equally many examples, from the most certain to the least.

    A useful uncertainty rises to the right. Bars are 95 % intervals of the mean, ``1.96 s / sqrt(n)``; the title holds
    Spearman's rank correlation of uncertainty and error.

    Args:
        uncertainty: (N,), such as `MCPrediction.mutual_information`, or a standard deviation.
        error: (N,), at least 0: an absolute error, or 1 for a wrong label and 0 for a right one.
        bins: how many, at least 1. Default: 10.
        name: of the uncertainty, for the axis.

    Returns:
        A plotly figure.

    Raises:
        InputError: for numbers that are not finite, other shapes, fewer than two examples, or too few bins.
        MissingExtraError: plotly or scipy is not installed.

    Example:
        >>> uncertainty_error([0.1, 0.2, 0.4], [0, 0, 1], bins=3).layout.title.text
        'Spearman correlation 0.87'
    """
    u, e = _paired(uncertainty, error, ("uncertainty", "error"))
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise InputError("there is at least one bin", got=bins, fix="Pass bins=10")
    order = u.argsort(stable=True)
    parts = [part for part in order.tensor_split(bins) if len(part)]
    means = [float(e[part].mean()) for part in parts]
    half = [1.96 * float(e[part].std()) / math.sqrt(len(part)) if len(part) > 1 else 0.0 for part in parts]
    hover = [f"{len(part):,} examples, {look.label(name)} {float(u[part[0]]):.4g} to {float(u[part[-1]]):.4g}<br>"
             f"mean error {mean:.4g} ± {wide:.2g}" for part, mean, wide in zip(parts, means, half, strict=True)]
    points = {"type": "scatter", "mode": "lines+markers", "name": "mean error",
              "x": [float(u[part].median()) for part in parts], "y": means, "hovertext": hover, "hoverinfo": "text",
              "cliponaxis": False,
              "error_y": {"array": half, "thickness": 1.5, "width": 4}, "line": {"color": look.colour(0), "width": 2},
              "marker": {"symbol": look.marker(0), "size": 8}}
    traces = [points] if set(e.tolist()) <= {0.0, 1.0} else [_cloud(u, e), points]
    return figure(traces, look.layout(
        380, margin=_TOP, title=_title(f"Spearman correlation {_spearman(u, e):.2f}"), xaxis=look.axis(look.label(name)),
        yaxis=look.axis("error", rangemode="tozero")))


def reliability(probabilities: Any, y: Any, bins: int = 15) -> Any:
    """Draw how often predictions are right against how sure they are, over a histogram of the confidences.

    A calibrated model lies on the diagonal; below it the model is too sure. The title holds the expected calibration error.

    Args:
        probabilities: (N, K), rows that sum to 1, such as `MCPrediction.mean`.
        y: (N,) labels, whole numbers in [0, K).
        bins: of equal width, at least 1. Default: 15.

    Returns:
        A plotly figure.

    Raises:
        InputError: a shape, a type, a label or a row's sum is out of range, or there are no examples.
        MissingExtraError: plotly is not installed.

    Example:
        >>> reliability([[0.9, 0.1], [0.9, 0.1]], [0, 1]).layout.title.text
        'expected calibration error 40.0 %'

    References:
        Guo, Pleiss, Sun, Weinberger: "On calibration of modern neural networks", ICML 2017.
    """
    p, labels = scores.check_classes(probabilities, y)
    found = counted.reliability(p.clamp(min=1e-300).log(), labels, bins)
    return calibration.diagram(found, margin=_TOP, title=_title(f"expected calibration error {100 * counted.ece(found):.1f} %"))


def risk_coverage(uncertainty: Any, loss: Any) -> Any:
    """Draw the mean loss over the share of examples that are answered, the most certain first.

    The dashed line answers at random, the dotted one knows the losses; a useful uncertainty lies between them. The legend holds
    the areas under the curves (AURC).

    Args:
        uncertainty: (N,), or a mapping of names to such, to compare several.
        loss: (N,), such as 1 for a wrong label and 0 for a right one.

    Returns:
        A plotly figure.

    Raises:
        InputError: for numbers that are not finite, other shapes, or no examples.
        MissingExtraError: plotly is not installed.

    Example:
        >>> [trace.name for trace in risk_coverage({"entropy": [0.1, 0.9, 0.5]}, [0, 1, 0]).data]
        ['entropy: 0.111', 'at random: 0.333', 'ideal: 0.111']

    References:
        Geifman, El-Yaniv: "Selective classification for deep neural networks", NeurIPS 2017.
    """
    named = uncertainty if isinstance(uncertainty, Mapping) else {"uncertainty": uncertainty}
    if not named:
        raise InputError("there is an uncertainty to draw", got=uncertainty, fix="Pass a tensor, or a mapping of names to some")
    curves = [_curve(f"{look.label(str(name))}: ", scores.risk_coverage(values, loss), index)
              for index, (name, values) in enumerate(named.items())]
    ideal = scores.risk_coverage(loss, loss)
    mean = float(ideal.risk[-1])
    level = {"type": "scatter", "mode": "lines", "name": f"at random: {mean:.3g}", "x": [0, 1], "y": [mean, mean],
             "hoverinfo": "name", "line": {"color": look.GREY, "width": 1.5, "dash": "dash"}}
    best = _curve("ideal: ", ideal, 0) | {"line": {"color": look.GREY, "width": 1.5, "dash": "dot"}}
    return figure([*curves, level, best], look.layout(
        380, margin=_TOP, showlegend=True, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        xaxis=look.axis("share of examples answered", range=[0, 1.01], tickformat=".0%"),
        yaxis=look.axis("mean loss of these", rangemode="tozero")))


def ood(inside: Any, outside: Any, *, name: str = "uncertainty", bins: int = 40) -> Any:
    """Draw how uncertain a model is on examples of the kind that it knows and on others.

    The title holds the area under the ROC curve, the probability that an example from elsewhere is less certain, and the share
    of known examples that are flagged when 95 % of the others are.

    Args:
        inside: (N,) uncertainties of in-distribution examples; higher is less certain.
        outside: (M,) those of out-of-distribution examples.
        name: of the uncertainty, for the axis.
        bins: how many, at least 1. Default: 40.

    Returns:
        A plotly figure.

    Raises:
        InputError: for scores that are no finite numbers, or none.
        MissingExtraError: plotly or torchmetrics is not installed.

    Example:
        >>> ood([0.1, 0.2], [0.2, 0.3]).layout.title.text
        'AUROC 0.875, FPR95 50.0 %'
    """
    auroc, fpr = scores.ood_auroc(inside, outside), scores.fpr_at_tpr(inside, outside)
    groups = [scores.numbers_of(values, "scores").flatten() for values in (inside, outside)]
    low, high = float(min(values.min() for values in groups)), float(max(values.max() for values in groups))
    high = high if high > low else low + 1.0
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    traces = [_histogram(values, edges, title, index) for index, (values, title) in enumerate(
        zip(groups, ("in distribution", "out of distribution"), strict=True))]
    return figure(traces, look.layout(
        380, margin=_TOP, barmode="overlay", bargap=0, showlegend=True,
        title=_title(f"AUROC {auroc:.3f}, FPR95 {100 * fpr:.1f} %"),
        legend={"x": 0.99, "xanchor": "right", "y": 0.98}, xaxis=look.axis(look.label(name)),
        yaxis=look.axis("share of examples", tickformat=".0%", rangemode="tozero")))


def interval_coverage(mean: Any, std: Any, y: Any) -> Any:
    """Draw which share of targets lies inside the central normal interval of each level: the calibration of a regression.

    A calibrated model lies on the diagonal; below it the intervals are too narrow.

    Args:
        mean: predictions.
        std: their standard deviations, of the same shape, noise included.
        y: the targets, of the same shape.

    Returns:
        A plotly figure.

    Raises:
        InputError: for other shapes, numbers that are not finite, a negative deviation, or no examples.
        MissingExtraError: plotly is not installed.

    Example:
        >>> interval_coverage([0.0, 0.0], [1.0, 1.0], [0.5, 1.5]).layout.title.text
        'inside the 95 % interval: 100.0 % of 2 targets'

    References:
        Kuleshov, Fenner, Ermon: "Accurate uncertainties for deep learning using calibrated regression", ICML 2018.
    """
    levels = [step / 40 for step in range(1, 40)]
    found = scores.interval_coverage(mean, std, y, levels)
    observed = [found[level] for level in levels]
    title = f"inside the 95 % interval: {100 * found[0.95]:.1f} % of {torch.as_tensor(y).numel():,} targets"
    diagonal = {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "hoverinfo": "skip",
                "line": {"color": look.GREY, "width": 1.5, "dash": "dash"}}
    curve = {"type": "scatter", "mode": "lines+markers", "x": levels, "y": observed, "cliponaxis": False,
             "hovertemplate": "level %{x:.1%}: %{y:.1%} inside<extra></extra>", "line": {"color": look.colour(0), "width": 2},
             "marker": {"symbol": look.marker(0), "size": 5}}
    square = {"range": [-0.01, 1.01], "tickvals": [0, 0.25, 0.5, 0.75, 1], "tickformat": ".0%"}
    return figure([diagonal, curve], look.layout(
        380, margin=_TOP, title=_title(title), xaxis=look.axis("level of the interval", **square),
        yaxis=look.axis("share of targets inside", **square)))


def _paired(first: Any, second: Any, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    one, other = (scores.numbers_of(values, name).flatten() for values, name in zip((first, second), names, strict=True))
    if one.shape != other.shape or len(one) < 2:
        raise InputError(f"{names[0]} and {names[1]} are as many finite numbers, two at least",
                         got=phrase(f"{len(one)} and {len(other)}"), fix="Pass one of each an example")
    return one, other


def _spearman(u: Tensor, e: Tensor) -> float:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "study") from error
    if bool((u == u[0]).all() or (e == e[0]).all()):
        return math.nan  # there is none with a constant
    return float(stats.spearmanr(u.numpy(), e.numpy()).statistic)


def _cloud(u: Tensor, e: Tensor) -> dict[str, Any]:
    chosen = torch.linspace(0, len(u) - 1, min(len(u), _POINTS)).round().long()
    return {"type": "scatter", "mode": "markers", "name": "examples", "x": _digits(u[chosen]), "y": _digits(e[chosen]),
            "hoverinfo": "skip", "marker": {"color": look.FAINT, "size": 4}}


def _curve(title: str, found: scores.RiskCoverage, index: int) -> dict[str, Any]:
    chosen = torch.linspace(0, len(found.risk) - 1, min(len(found.risk), _STEPS)).round().long()
    dash = ("solid", "longdash", "dashdot")[index % 3]
    return {"type": "scatter", "mode": "lines", "name": f"{title}{found.area:.3g}", "x": _digits(found.coverage[chosen]),
            "y": _digits(found.risk[chosen]), "hovertemplate": "%{x:.1%} answered: %{y:.4g}<extra></extra>",
            "line": {"color": look.colour(index), "width": 2, "dash": dash}}


def _histogram(values: Tensor, edges: Tensor, title: str, index: int) -> dict[str, Any]:
    counts = torch.histogram(values, edges).hist
    middles = (edges[1:] + edges[:-1]) / 2
    return {"type": "bar", "name": f"{title} ({len(values):,})", "x": _digits(middles), "y": _digits(counts / len(values)),
            "width": float(edges[1] - edges[0]), "hovertemplate": "%{x:.4g}: %{y:.1%}<extra></extra>",
            "marker": {"color": look.veil(index, 0.55), "line": {"color": look.colour(index), "width": 1},
                       "pattern": {"shape": ("", "/")[index % 2], "fgcolor": look.colour(index), "fillmode": "overlay"}}}


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "x": 0.0, "xref": "paper", "xanchor": "left", "font": {"size": 14}}


def _digits(values: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]
