"""What a tuning tried and found: plain records, written to and read from ``tuning.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FINISHED, PRUNED = "finished", "pruned"


@dataclass(frozen=True)
class Group:
    """Sites that share one tuned rate: a label, the sites' names, their kind, and the mean of their intended rates."""

    label: str
    sites: list[str]
    kind: str
    intended: float


@dataclass(frozen=True)
class Trial:
    """One setting that was tried.

    ``rates`` holds a rate for each group's label. ``values`` holds the validation metric of each tuning seed that was trained,
    ``value`` their mean; for a pruned trial, the best trial's mean plus the mean paired difference from it. ``origin`` is
    ``"sweep"`` for settings given beforehand and ``"sampler"`` for Optuna's. ``diverged`` counts runs that diverged, which
    are scored as the best constant prediction.
    """

    index: int
    rates: dict[str, float]
    values: dict[int, float]
    value: float
    status: str
    origin: str
    diverged: int
    seconds: float


@dataclass(frozen=True)
class Importance:
    """How much of the score's variation over the trials a group's rate explains; the shares of all groups add up to 1.

    ``mean`` and ``sd`` are fANOVA's over resampled trials; ``whole`` is PED-ANOVA's on all trials.
    """

    label: str
    mean: float
    sd: float
    whole: float


@dataclass(frozen=True)
class Tuning:
    """A tuning: what was searched, every finished trial in order, the best one's index, and importances where they make sense.

    ``failed`` lists what trials that raised said. ``seeds`` are the tuning seeds, none of which the confirming study uses.
    """

    metric: str
    higher_is_better: bool
    low: float
    high: float
    seeds: list[int]
    groups: list[Group]
    trials: list[Trial]
    best: int
    importances: list[Importance]
    failed: list[str]

    @property
    def chosen(self) -> Trial:
        """The trial with the best mean over all tuning seeds; of equals, the one that drops less."""
        return next(trial for trial in self.trials if trial.index == self.best)

    def site_rates(self) -> dict[str, float]:
        """Return the tuned rate of every site, by its name."""
        return {site: self.chosen.rates[group.label] for group in self.groups for site in group.sites}


def best_of(trials: list[Trial], higher_is_better: bool) -> Trial:
    """Return the best finished trial; equal means (to 1e-12) are decided by the smaller sum of rates, then the index."""
    whole = [trial for trial in trials if trial.status == FINISHED]
    sign = 1 if higher_is_better else -1
    top = max(sign * trial.value for trial in whole)
    equals = [trial for trial in whole if top - sign * trial.value <= 1e-12 * max(1.0, abs(top))]
    return min(equals, key=lambda trial: (math.fsum(trial.rates.values()), trial.index))


def tuning_from(raw: Mapping[str, Any]) -> Tuning:
    """Build a `Tuning` from its JSON form."""
    trials = [Trial(**{**trial, "values": {int(seed): value for seed, value in trial["values"].items()}})
              for trial in raw["trials"]]
    return Tuning(**{**raw, "trials": trials, "groups": [Group(**group) for group in raw["groups"]],
                     "importances": [Importance(**item) for item in raw["importances"]]})
