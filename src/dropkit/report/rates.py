"""The figures about rates: the score along a sweep of them, and what each site's dropout is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from dropkit.report import look
from dropkit.report.extras import figure
from dropkit.report.numbers import Scale, deviation, known, mean
from dropkit.report.rows import Row, rows_figure
from dropkit.study.result import Arm, Contrast, StudyResult

FEWEST = 3  # settings that make a curve


@dataclass(frozen=True)
class Setting:
    """A point of the curve: the mean rate over the sites, the arm's number, and its runs' scores in the seeds' order."""

    rate: float
    index: int
    scores: list[float]


@dataclass(frozen=True)
class Keep:
    """A site, or several, whose dropout one arm takes away: what it is called, the arm's number, and the contrast."""

    name: str
    index: int
    contrast: Contrast


def sweep(result: StudyResult) -> list[Setting]:
    """Return the arms that differ in one factor on all rates and in nothing else, by rising rate.

    Of several such families the largest is taken; the arm that drops nothing belongs to each.

    Args:
        result: the study.

    Returns:
        The settings; empty where fewer than three rates lie on one line.
    """
    plain = [(index, arm) for index, arm in enumerate(result.arms) if arm.sites and not arm.recipe.changes()]
    families = [[pair for pair in plain if _on_one_line(pair[1], other)] for _, other in plain if _total(other) > 0]
    best = max(families, key=len, default=[])
    by_rate: dict[float, tuple[int, Arm]] = {}
    for index, arm in best:
        by_rate.setdefault(round(_total(arm) / len(arm.sites), 9), (index, arm))
    if len(by_rate) < FEWEST:
        return []
    return [Setting(rate, index, [run.test_metric for run in result.of_arm(arm.name)])
            for rate, (index, arm) in sorted(by_rate.items())]


def rate_curve(result: StudyResult) -> Any:
    """Draw the test metric against the rate: a thin line a seed, the mean, and its standard error.

    Args:
        result: the study.

    Returns:
        A plotly figure of two traces: the seeds and the mean.
    """
    scale, settings = Scale.of(result.summary), sweep(result)
    rates = [setting.rate for setting in settings]
    means = [mean(setting.scores) for setting in settings]
    errors = [(deviation(setting.scores) or 0.0) / math.sqrt(len(setting.scores)) for setting in settings]
    hover = [f"{look.label(look.shorten(result.arms[setting.index].name))}, rate {setting.rate:.3g}: {scale.value(middle)}"
             for setting, middle in zip(settings, means, strict=True)]
    bar = {"type": "scatter", "mode": "lines+markers", "name": "mean", "x": rates, "y": [scale.drawn(value) for value in means],
           "hovertext": hover, "hoverinfo": "text", "line": {"color": look.colour(0), "width": 2.5},
           "marker": {"size": 9, "symbol": [look.marker(setting.index) for setting in settings]},
           "error_y": {"type": "data", "array": [error * scale.factor for error in errors], "thickness": 2, "width": 5,
                       "color": look.colour(0), "visible": any(errors)}}
    drawn = known(scale.drawn(value) for setting in settings for value in setting.scores)
    title = look.label(scale.axis(f"test {look.shorten(scale.metric)}"))
    room = (rates[-1] - rates[0]) * 0.05
    return figure([_seeds(settings, scale), bar],
                  look.layout(360, xaxis=look.axis("mean rate over the sites", range=[rates[0] - room, rates[-1] + room]),
                              yaxis=look.axis(title, range=look.span(drawn, 0.08))))


def kept(result: StudyResult) -> list[Keep]:
    """Return what each site's dropout is worth: the arms that are their reference with the rate of some sites set to 0.

    Args:
        result: the study.

    Returns:
        One entry a contrast of that kind; empty unless at least two take away different sites and leave others.
    """
    arms = {arm.name: (index, arm) for index, arm in enumerate(result.arms)}
    found = []
    for contrast in result.contrasts:
        if contrast.arm in arms and contrast.reference in arms:
            (index, arm), (_, reference) = arms[contrast.arm], arms[contrast.reference]
            gone = _taken_away(arm, reference)
            if gone and _total(arm) > 0:
                found.append(Keep(", ".join(gone), index, contrast))
    return found if len(found) > 1 else []


def worth(result: StudyResult) -> Any:
    """Draw what the score loses when a site's dropout is taken away, with its 95 % interval.

    Args:
        result: the study.

    Returns:
        A plotly figure with two traces a site: the seeds' differences, and the mean with its interval.
    """
    scale, entries = Scale.of(result.summary), kept(result)
    names = look.short_names([entry.name or "(the model itself)" for entry in entries])
    rows = [Row(name, entry.index, [-value for value in entry.contrast.differences], entry.contrast.seeds,
                -entry.contrast.mean, _negated(entry.contrast.high), _negated(entry.contrast.low))
            for name, entry in zip(names, entries, strict=True)]
    return rows_figure(rows, scale, result.summary.margin, ("← better without", "earns its keep →"))


def _seeds(settings: list[Setting], scale: Scale) -> dict[str, Any]:
    places: list[float | None] = []
    values: list[float | None] = []
    for seed in range(max(len(setting.scores) for setting in settings)):
        drawn = [(setting.rate, scale.drawn(setting.scores[seed])) for setting in settings if seed < len(setting.scores)]
        places += [*(rate for rate, _ in drawn), None]  # a gap between one seed's line and the next
        values += [*(value for _, value in drawn), None]
    return {"type": "scatter", "mode": "lines", "name": "seeds", "x": places, "y": values, "hoverinfo": "skip",
            "line": {"color": look.FAINT, "width": 1.2}}


def _total(arm: Arm) -> float:
    return math.fsum(site.p for site in arm.sites)


def _on_one_line(arm: Arm, other: Arm) -> bool:
    """Tell whether the arm's rates are a multiple of the other's, site by site."""
    if [site.name for site in arm.sites] != [site.name for site in other.sites]:
        return False
    factor = _total(arm) / _total(other)
    return all(math.isclose(one.p, factor * two.p, rel_tol=1e-6, abs_tol=1e-9)
               for one, two in zip(arm.sites, other.sites, strict=True))


def _taken_away(arm: Arm, reference: Arm) -> list[str]:
    """Return the sites at which the arm is 0 and the reference is not, or nothing if they differ in anything else."""
    if arm.recipe != reference.recipe or [site.name for site in arm.sites] != [site.name for site in reference.sites]:
        return []
    changed = [(one, two) for one, two in zip(arm.sites, reference.sites, strict=True) if one.p != two.p]
    return [one.name for one, _ in changed] if all(one.p == 0 for one, _ in changed) else []


def _negated(value: float | None) -> float | None:
    return None if value is None else -value
