"""A study's figures in the form in which the findings ask for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

from dropkit.study.result import Arm, Run, StudyResult

WEAK = 0.05
"""Mask noise over data noise that does not matter."""


class Evidence:
    """Medians over seeds of what was measured, and which arms are to be compared.

    Args:
        result: the study.
    """

    def __init__(self, result: StudyResult) -> None:
        self.result, self.summary = result, result.summary
        self.runs = {arm.name: result.of_arm(arm.name) for arm in result.arms}
        self.dropping = sorted((arm for arm in result.arms if rate(arm) > 0), key=rate, reverse=True)  # the strongest first
        self.plain = next((arm for arm in result.arms if rate(arm) == 0 and not arm.recipe.changes()), None)

    @property
    def strongest(self) -> list[Arm]:
        """The arm that drops the most and changes nothing else; none or one."""
        return [arm for arm in self.dropping if not arm.recipe.changes()][:1]

    def over_seeds(self, arm: Arm, look: Callable[[Run], float | None]) -> float | None:
        """Return the median over an arm's runs of what ``look`` finds in them; None where it finds nothing."""
        return middle(look(run) for run in self.runs[arm.name])

    def paired(self, arm: Arm, other: Arm, look: Callable[[Run], float | None]) -> list[float]:
        """Return seed by seed by how much what ``look`` finds in an arm lies above that in another, where both have it."""
        values = {run.seed: look(run) for run in self.runs[other.name]}
        pairs = [(look(run), values.get(run.seed)) for run in self.runs[arm.name]]
        return [first - second for first, second in pairs if first is not None and second is not None]

    def mask_to_data(self, arm: Arm) -> float | None:
        """Return the gradient noise that an arm's masks bring over that of the data: medians over epochs, then over seeds."""
        return self.over_seeds(arm, _mask_to_data)

    def is_faint(self, arm: Arm) -> bool:
        """Tell whether an arm's masks, or those of the unchanged recipe at its rate or a higher one, add next to no noise."""
        like = [arm, *(other for other in self.dropping if not other.recipe.changes() and rate(other) >= rate(arm))]
        return any(0 < (self.mask_to_data(other) or 0.0) < WEAK for other in like)

    def layers(self, arm: Arm, name: str) -> dict[str, float]:
        """Return by layer the median over seeds of an instrument's last value."""
        names = dict.fromkeys(layer for run in self.runs[arm.name] for layer in run.instruments.get(name, {}))
        found = {layer: self.over_seeds(arm, lambda run, layer=layer: last(  # type: ignore[misc]
            run.instruments.get(name, {}).get(layer, []))) for layer in names}
        return {layer: value for layer, value in found.items() if value is not None}

    def gain(self, arm: Arm, over: Arm) -> float:
        """Return by how much the mean test metric of ``arm`` is better than that of another."""
        first, second = (sum(run.test_metric for run in self.runs[each.name]) / len(self.runs[each.name])
                         for each in (arm, over))
        return first - second if self.summary.higher_is_better else second - first


def rate(arm: Arm) -> float:
    """Return an arm's mean rate over its sites; of a strength that is no rate nothing is known."""
    return sum(site.p for site in arm.sites if site.p > 0) / max(1, len(arm.sites))


def beyond_noise(differences: Sequence[float]) -> float:
    """Return the mean of paired differences where it is two standard errors above 0 or more, else 0.

    Example:
        >>> beyond_noise([0.1, 0.2, 0.3]) > 0.19, beyond_noise([-0.3, 0.1, 0.3]), beyond_noise([])
        (True, 0.0, 0.0)
    """
    n = len(differences)
    error = stdev(differences) / math.sqrt(n) if n > 1 else 0.0
    mean = fmean(differences) if n else 0.0
    return mean if mean >= 2 * error else 0.0


def middle(values: Iterable[float | None]) -> float | None:
    """Return the median of the values that are there.

    Example:
        >>> middle([3.0, None, 1.0, 2.0]), middle([None])
        (2.0, None)
    """
    known = [value for value in values if value is not None]
    return median(known) if known else None


def last(values: list[float | None]) -> float | None:
    """Return the last value that is there.

    Example:
        >>> last([1.0, 2.0, None])
        2.0
    """
    return next((value for value in reversed(values) if value is not None), None)


def measured(run: Run, name: str) -> list[float]:
    """Return the values of an instrument that has one for each measured epoch; those that are there."""
    return [value for value in run.instruments.get(name, []) if value is not None]


def _mask_to_data(run: Run) -> float | None:
    pairs = zip(run.instruments.get("mask_noise", []), run.instruments.get("data_noise", []), strict=True)
    return middle(mask / data for mask, data in pairs if mask is not None and data)
