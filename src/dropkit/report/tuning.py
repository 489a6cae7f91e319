"""The figures about a tuning: the score of every setting tried, and how much each rate mattered."""

from __future__ import annotations

from typing import Any

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.report.numbers import Scale
from dropkit.study.result import StudyResult
from dropkit.study.tuning.record import FINISHED, Group, Trial, Tuning

GROUPS = 6  # figures of one rate each; a tuning of more rates shows those that matter most
_BLUE, _ORANGE = 0, 1


def shown_groups(tuning: Tuning) -> list[Group]:
    """Return the groups that get a figure: all of a few, else the most important ones."""
    rank = {one.label: place for place, one in enumerate(tuning.importances)}
    return sorted(tuning.groups, key=lambda group: rank.get(group.label, 0))[:GROUPS]


def score_against_rate(result: StudyResult, tuning: Tuning, group: Group) -> Any:
    """Draw the validation score of every trial against its rate in ``group``; the chosen one is filled and larger.

    Args:
        result: the study, for units.
        tuning: its tuning.
        group: whose rate lies along the horizontal axis.

    Returns:
        A plotly figure with a trace each of finished, pruned and chosen trials.
    """
    scale, best = Scale.of(result.summary), tuning.chosen
    kinds = {"finished": [one for one in tuning.trials if one.status == FINISHED and one is not best],
             "pruned": [one for one in tuning.trials if one.status != FINISHED], "chosen": [best]}
    symbols = {"finished": ("circle", 8, _BLUE), "pruned": ("x-thin-open", 8, _BLUE), "chosen": ("diamond", 14, _ORANGE)}
    traces = [_points(kinds[kind], kind, group, scale, *symbols[kind]) for kind in kinds if kinds[kind]]
    values = [one.value * scale.factor for one in tuning.trials]
    axes = {"xaxis": look.axis(look.label(f"rate of {look.shorten(group.label)}"), range=look.span([tuning.low, tuning.high])),
            "yaxis": look.axis(look.label(scale.axis(f"validation {look.shorten(tuning.metric)}")), range=look.span(values))}
    return figure(traces, look.layout(300, **axes))


def importance(tuning: Tuning) -> Any:
    """Draw the share of the score's variation that each rate explains, with its standard deviation over resampled trials.

    Args:
        tuning: one with importances.

    Returns:
        A plotly figure of one trace, the most important rate on top.
    """
    shown = tuning.importances[:20]
    names = look.short_names([one.label for one in shown])
    bars = {"type": "bar", "orientation": "h", "y": list(range(len(shown))), "x": [one.mean for one in shown],
            "error_x": {"type": "data", "array": [one.sd for one in shown], "color": look.GREY, "thickness": 2, "width": 5},
            "marker": {"color": look.colour(_BLUE)}, "hoverinfo": "text",
            "hovertext": [f"{look.label(one.label)}: {one.mean:.2f} ± {one.sd:.2f}, PED-ANOVA {one.whole:.2f}"
                          for one in shown]}
    rows = look.axis(tickvals=list(range(len(shown))), ticktext=[look.label(name) for name in names], showgrid=False,
                     range=[len(shown) - 0.4, -0.6])
    shares = look.axis("share of the variation", range=[0, 1.05])
    return figure([bars], look.layout(90 + 34 * len(shown), yaxis=rows, xaxis=shares))


def scores_caption(tuning: Tuning) -> str:
    """Say what the points are, and what was chosen."""
    pruned = sum(one.status != FINISHED for one in tuning.trials)
    rates = ", ".join(f"{label} {rate:.3g}" for label, rate in tuning.chosen.rates.items())
    cut = f" {pruned} were stopped early (crosses; their scores are estimates)." if pruned else ""
    more = f" {GROUPS} of {len(tuning.groups)} rates are drawn." if len(tuning.groups) > GROUPS else ""
    return (f"Each point is a setting: its mean over {len(tuning.seeds)} tuning seeds on validation data. "
            f"Of {len(tuning.trials)} settings the diamond was chosen ({rates}).{cut}{more} The best of many looks "
            "better than it is; the verdict above comes from fresh seeds and test data.")


def scores_alt(tuning: Tuning, group: Group) -> str:
    """Describe a figure of scores in words."""
    return (f"Scatter of validation {tuning.metric} against the rate of {group.label} over {len(tuning.trials)} settings; "
            f"the chosen one has rate {tuning.chosen.rates[group.label]:.3g} and scores {tuning.chosen.value:.4g}.")


def importance_caption() -> str:
    """Say what the bars are."""
    return ("fANOVA's share of the validation score's variation over the settings tried, with its standard deviation when the "
            "settings are drawn again. Bars whose whiskers overlap are not told apart.")


def importance_alt(tuning: Tuning) -> str:
    """Describe the figure of importances in words."""
    shares = ", ".join(f"{one.label} {one.mean:.2f} ± {one.sd:.2f}" for one in tuning.importances)
    return f"Bars of each rate's importance: {shares}."


def _points(trials: list[Trial], name: str, group: Group, scale: Scale, symbol: str, size: int, index: int) -> dict[str, Any]:
    hover = [f"trial {one.index + 1}: " + ", ".join(f"{look.label(label)} {rate:.3g}" for label, rate in one.rates.items())
             + f"<br>{scale.value(one.value)} ({name})" for one in trials]
    return {"type": "scatter", "mode": "markers", "name": name, "x": [one.rates[group.label] for one in trials],
            "y": [one.value * scale.factor for one in trials], "hovertext": hover, "hoverinfo": "text",
            "marker": {"symbol": symbol, "size": size, "color": look.veil(index, 0.8), "line": {"width": 2 if "thin" in symbol
                       else 0, "color": look.colour(index)}}}
