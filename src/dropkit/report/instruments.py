"""The figures about what was measured inside the networks: one a quantity, over training or layer by layer."""

from __future__ import annotations

from typing import Any

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.report.numbers import deviation, known, mean
from dropkit.study.result import Run, StudyResult

LAYERS = 40  # layers drawn in one figure
ABLATIONS = {"ablation_25": 0.25, "ablation_50": 0.5, "ablation_75": 0.75}  # name -> share of the units that is zeroed


def scalars(result: StudyResult) -> list[str]:
    """Return the names of the instruments that read one number a network over training, and not 0 throughout."""
    return [name for name in _names(result) if not _is_by_layer(result, name)
            and any(known(value for run in result.runs for value in _of(run, name, None)))]


def by_layer(result: StudyResult) -> list[str]:
    """Return the names of the instruments that read a number a layer, and not 0 throughout, but for the ablations."""
    return [name for name in _names(result) if _is_by_layer(result, name) and name not in ABLATIONS
            and any(known(value for layer in layers(result, name) for run in result.runs for value in _of(run, name, layer)))]


def has_ablations(result: StudyResult) -> bool:
    """Tell whether units were zeroed in the networks."""
    return any(known(value for layer in layers(result, name) for run in result.runs for value in _of(run, name, layer))
               for name in ABLATIONS)


def layers(result: StudyResult, name: str) -> list[str]:
    """Return the layers that ``name`` was read at, in the network's order."""
    return list(dict.fromkeys(layer for run in result.runs for layer in run.instruments.get(name, {})))


def last(result: StudyResult, arm: str, name: str, layer: str | None = None) -> float | None:
    """Return the mean over an arm's runs of the last reading of an instrument, at one layer where it has several."""
    readings = [_of(run, name, layer) for run in result.of_arm(arm)]
    return mean(values[-1] for values in readings if values)


def over_training(result: StudyResult, name: str, arms: list[int], title: str = "") -> Any:
    """Draw an instrument over the epochs at which it was read: each arm's mean, with one standard deviation either side.

    Args:
        result: the study.
        name: one of `scalars`.
        arms: the numbers of the arms to draw.
        title: of the vertical axis.

    Returns:
        A plotly figure; each trace's ``meta`` is its arm's number.
    """
    traces = []
    for index in arms:
        arm = result.arms[index]
        epochs, columns = _columns(result.of_arm(arm.name), name)
        middles, spreads = [mean(column) for column in columns], [deviation(column) or 0.0 for column in columns]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": look.label(look.shorten(arm.name)), "meta": index,
            "x": epochs, "y": [_digits(value) for value in middles], "hovertemplate": "%{y:.4~g}",
            "line": {"color": look.colour(index), "width": 2.5}, "marker": {"size": 8, "symbol": look.marker(index)},
            "error_y": {"type": "data", "array": [_digits(value) for value in spreads], "thickness": 1.2, "width": 4,
                        "color": look.veil(index, 0.6), "visible": any(spreads)}})
    return figure(traces, look.layout(300, hovermode="x unified", xaxis=look.axis("epoch"),
                                      yaxis=look.axis(title, rangemode="normal")))


def across_layers(result: StudyResult, name: str, arms: list[int], title: str = "") -> Any:
    """Draw the last reading of an instrument at each layer: a marker an arm, the mean over its seeds.

    Args:
        result: the study.
        name: one of `by_layer`.
        arms: the numbers of the arms to draw.
        title: of the horizontal axis.

    Returns:
        A plotly figure; each trace's ``meta`` is its arm's number.
    """
    places = layers(result, name)[:LAYERS]
    labels = [look.label(place or "(the model)") for place in look.short_names(places, 30)]
    traces = []
    for index in arms:
        arm = result.arms[index]
        values = [last(result, arm.name, name, place) for place in places]
        hover = [f"{look.label(look.shorten(arm.name))}, {label}: {value:.4g}" if value is not None else ""
                 for label, value in zip(labels, values, strict=True)]
        traces.append({"type": "scatter", "mode": "markers", "name": look.label(look.shorten(arm.name)), "meta": index,
                       "x": [_digits(value) for value in values], "y": list(range(len(places))), "text": hover,
                       "hoverinfo": "text", "cliponaxis": False,
                       "marker": {"size": 10, "symbol": look.marker(index), "color": look.veil(index, 0.85)}})
    rows = look.axis(tickvals=list(range(len(places))), ticktext=labels, range=[len(places) - 0.5, -0.5])
    return figure(traces, look.layout(90 + 30 * len(places), xaxis=look.axis(title), yaxis=rows))


def ablations(result: StudyResult, arms: list[int]) -> Any:
    """Draw how the loss rises as units are zeroed, at the end of training: each arm's mean over layers and seeds.

    Args:
        result: the study.
        arms: the numbers of the arms to draw.

    Returns:
        A plotly figure; each trace's ``meta`` is its arm's number.
    """
    traces = []
    for index in arms:
        arm = result.arms[index]
        rises = [mean(last(result, arm.name, name, layer) for layer in layers(result, name)) for name in ABLATIONS]
        traces.append({"type": "scatter", "mode": "lines+markers", "name": look.label(look.shorten(arm.name)), "meta": index,
                       "x": [0.0, *ABLATIONS.values()], "y": [0.0, *(_digits(value) for value in rises)],
                       "hovertemplate": "%{y:.4~g}", "line": {"color": look.colour(index), "width": 2.5},
                       "marker": {"size": 8, "symbol": look.marker(index)}})
    shares = look.axis("share of units zeroed", tickvals=[0, 0.25, 0.5, 0.75], tickformat=".0%")
    return figure(traces, look.layout(300, hovermode="x unified", xaxis=shares, yaxis=look.axis("rise of the loss")))


def _names(result: StudyResult) -> list[str]:
    return [name for name in dict.fromkeys(name for run in result.runs for name in run.instruments) if name != "epoch"]


def _is_by_layer(result: StudyResult, name: str) -> bool:
    return any(isinstance(run.instruments.get(name), dict) for run in result.runs)


def _of(run: Run, name: str, layer: str | None) -> list[float | None]:
    found = run.instruments.get(name, [])
    if layer is not None:
        found = found.get(layer, []) if isinstance(found, dict) else []
    return list(found) if isinstance(found, list) else []


def _columns(runs: list[Run], name: str) -> tuple[list[int], list[list[float | None]]]:
    """Return the epochs at which an arm's runs were read and, for each, the readings of all that got so far."""
    readings: dict[int, list[float | None]] = {}
    for run in runs:
        for epoch, value in zip(run.instruments.get("epoch", []), _of(run, name, None), strict=False):
            readings.setdefault(epoch, []).append(value)
    epochs = sorted(readings)
    return epochs, [readings[epoch] for epoch in epochs]


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
