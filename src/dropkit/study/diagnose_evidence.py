"""A study's figures in the form in which the findings ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from dropkit.study.result import Arm, Run, StudyResult


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
