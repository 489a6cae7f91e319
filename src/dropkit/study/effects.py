"""What each change of a factorial study is worth on the average over the others, and whether two changes add up."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropkit.study.contrasts import FIRM_SEEDS, LEVEL
from dropkit.study.result import HELPS, HURTS, INCONCLUSIVE, LEANING, Arm, StudyResult
from dropkit.study.statistics import holm, paired_t

MORE, LESS = "more together", "less together"
"""What an interaction comes to: two changes are worth more together than what each is worth alone adds up to, or less."""
_RATES = "rates"  # the factor that is no field of the recipe


@dataclass(frozen=True)
class Effect:
    """The effect of one change, or the interaction of two.

    ``changes`` names the arms that make only this change, or only these. ``differences`` holds a value a seed, positive where
    the change is good, or where the two together are worth more than the sum; ``low`` and ``high`` bound the mean in a 95 %
    paired t interval. ``p_holm`` is ``p_t`` after Holm's correction over all effects. ``kind`` is helps or hurts, for two
    changes more or less together, if ``p_holm`` falls below 0.05; else inconclusive, and a leaning under 5 seeds.
    """

    changes: tuple[str, ...]
    seeds: list[int]
    differences: list[float]
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_holm: float | None
    kind: str


@dataclass(frozen=True)
class Crossing:
    """Factors whose levels all occur together: ``labels`` of each factor's levels, the first the one that changes nothing.

    ``arms`` is the grid of the arms' names, an axis a factor.
    """

    labels: list[list[str]]
    arms: NDArray[np.object_]


def effects(result: StudyResult) -> list[Effect]:
    """Return the effects of a study whose arms cross two changes or more, and nothing for another.

    With y the score, a main effect is the mean, over all levels of the other factors, of y with the change less y without.
    The interaction of two changes a and b is the mean, over the rest, of ``(y_ab - y_b) - (y_a - y_0)``: by how much b alters
    what a is worth. Both are taken seed by seed, turned so that positive is better, and tested as the contrasts are.

    Args:
        result: the study; rates are one factor, and each field of the arms' recipes is another.

    Returns:
        The main effects, then the interactions of each two.

    References:
        Box, Hunter, Hunter, "Statistics for Experimenters", 2nd edition 2005, chapter 5.
    """
    crossed = crossing(result.arms)
    if crossed is None:
        return []
    sign = 1 if result.summary.higher_is_better else -1
    scores = {(run.arm, run.seed): sign * run.test_metric for run in result.runs}
    values = np.array([[scores[str(arm), seed] for seed in result.seeds] for arm in crossed.arms.flat])
    grid = values.reshape(*crossed.arms.shape, len(result.seeds))
    changes = [(axis, level) for axis, labels in enumerate(crossed.labels) for level in range(1, len(labels))]
    pairs = [(one, other) for one, other in itertools.combinations(changes, 2) if one[0] != other[0]]
    chosen = [*((change,) for change in changes), *pairs]
    named = [tuple(crossed.labels[axis][level] for axis, level in terms) for terms in chosen]
    return _tested(named, [_differences(grid, terms) for terms in chosen], result.seeds)


def crossing(arms: Sequence[Arm]) -> Crossing | None:
    """Find the factors that a study's arms cross fully, or None where fewer than two do.

    Left out are rates that occur with some of the recipes only, as a sweep beside a factorial does, and arms that have a
    reference of their own, as classic scaling has.

    Args:
        arms: of the study.
    """
    placed: dict[tuple[Any, Any], str] = {}
    for arm in arms:
        if arm.reference is not None:
            continue
        setting = tuple(site.p for site in arm.sites)  # not their names, which a normalisation beside them may shift
        placed.setdefault((setting, frozenset(arm.recipe.changes().items())), arm.name)
    settings, recipes = (list(dict.fromkeys(key[part] for key in placed)) for part in range(2))
    rates = [one for one in settings if all((one, recipe) in placed for recipe in recipes)]
    fields = list(dict.fromkeys(name for recipe in recipes for name, _ in sorted(recipe)))
    levels: dict[str, list[Any]] = {_RATES: sorted(rates, key=lambda rate: sum(rate))}
    for name in fields:
        found = dict.fromkeys(dict(recipe).get(name) for recipe in recipes)
        levels[name] = sorted(found, key=lambda value: value is not None)
    levels = {name: known for name, known in levels.items() if len(known) > 1}
    combinations = [dict(zip(levels, cell, strict=True)) for cell in itertools.product(*levels.values())]
    names = [placed.get(_place(combination, rates)) for combination in combinations] if rates else []
    if len(levels) < 2 or not names or None in names:
        return None
    grid = np.array(names, dtype=object).reshape([len(known) for known in levels.values()])
    # A level is named like the arm where all other factors change nothing.
    return Crossing([list(np.moveaxis(grid, axis, 0).reshape(grid.shape[axis], -1)[:, 0]) for axis in range(grid.ndim)], grid)


def _place(combination: dict[str, Any], rates: Sequence[Any]) -> tuple[Any, Any]:
    recipe = {name: value for name, value in combination.items() if name != _RATES and value is not None}
    return combination.get(_RATES, rates[0]), frozenset(recipe.items())


def _differences(grid: NDArray[np.float64], terms: Iterable[tuple[int, int]]) -> list[float]:
    # 0.9 - 0.8 and 0.8 - 0.7 do not cancel, and what is left, alike in all seeds, would pass for certain.
    nothing = 1e-12 * float(np.abs(grid).max())
    for axis, level in terms:
        grid = np.take(grid, [level], axis) - np.take(grid, [0], axis)
    found = grid.reshape(-1, grid.shape[-1]).mean(0)
    return list(map(float, np.where(np.abs(found) <= nothing, 0.0, found)))


def _tested(named: Sequence[tuple[str, ...]], differences: Sequence[list[float]], seeds: list[int]) -> list[Effect]:
    estimates = [paired_t(values) for values in differences]
    p_values = [estimate.p for estimate in estimates if estimate.p is not None]
    corrected = holm(p_values) if p_values else [None] * len(estimates)  # a single seed gives none
    return [Effect(changes, list(seeds), values, estimate.mean, estimate.sd, estimate.low, estimate.high, estimate.p, p_holm,
                   _kind(changes, len(seeds), estimate.mean, p_holm))
            for changes, values, estimate, p_holm in zip(named, differences, estimates, corrected, strict=True)]


def _kind(changes: tuple[str, ...], seeds: int, mean: float, p_holm: float | None) -> str:
    if seeds < FIRM_SEEDS or p_holm is None:
        return LEANING
    if p_holm >= LEVEL:
        return INCONCLUSIVE
    if len(changes) == 1:
        return HELPS if mean > 0 else HURTS
    return MORE if mean > 0 else LESS
