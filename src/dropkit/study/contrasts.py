"""Each arm against the reference, paired by seed, with every test and the verdict on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dropkit.core.errors import InputError
from dropkit.study.result import HELPS, HURTS, INCONCLUSIVE, LEANING, NO_DIFFERENCE, SAME, Arm, Contrast
from dropkit.study.statistics import equivalence, holm, paired_t, seeds_to_settle, sign_flip

FIRM_SEEDS = 5
"""Fewest seeds that give a verdict."""
LEVEL = 0.05
"""Significance level of the two-sided tests."""
SAME_LEVEL = LEVEL / 2
"""Level of each one-sided equivalence test: at this one it concludes just where the 95 % interval lies inside the margin,
so that a verdict of no meaningful difference never stands beside an interval that reaches over the margin."""
LIMIT = 1000
"""Most seeds that are estimated to settle a comparison."""


def reference_of(arms: Sequence[Arm]) -> str:
    """Return the name of the arm that the others are compared with: the one that drops and changes nothing, else the first.

    Args:
        arms: of a study, at least one.
    """
    plain = [arm for arm in arms if all(site.p == 0 for site in arm.sites) and not arm.recipe.changes()]
    return (plain or list(arms))[0].name


def references(arms: Sequence[Arm]) -> dict[str, str]:
    """Return arm -> the arm that it is compared with: its own reference, else the study's, which itself is not listed.

    Args:
        arms: of a study, at least one.
    """
    common = reference_of(arms)
    return {arm.name: arm.reference or common for arm in arms if arm.reference or arm.name != common}


def contrasts(scores: Mapping[str, Mapping[int, float]], reference: str | Mapping[str, str], higher_is_better: bool,
              margin: float) -> list[Contrast]:
    """Compare every arm with its reference, paired by seed.

    Under 5 seeds a contrast is a leaning. From 5 seeds on it is, in this order: *no meaningful difference* if the
    equivalence test against the margin falls below 0.025, which is when the 95 % interval lies inside it; *helps* or *hurts*,
    by the sign of the mean, if the paired t test falls below 0.05 after Holm's correction over the contrasts; else
    *inconclusive*, with the number of seeds that would settle it.

    Args:
        scores: arm -> seed -> finite score on the held-out data.
        reference: the arm that all others are compared with, or arm -> its reference; Holm's correction is over all of them.
        higher_is_better: whether a larger score is better; differences are turned so that positive means better.
        margin: the smallest difference worth having, in the unit of the scores; at least 0.

    Returns:
        A contrast for each arm that has a reference, in the order of ``scores``, over the seeds that both have.

    Raises:
        InputError: the reference is not among the arms, an arm shares no seed with it, or a number is not finite.

    Example:
        >>> found, = contrasts({"none": {0: 0.90, 1: 0.91}, "intended": {0: 0.92, 1: 0.92}}, "none", True, 0.005)
        >>> found.kind, found.leaning, round(found.mean, 3)
        ('leaning', 'helps', 0.015)
    """
    against = {arm: reference for arm in scores if arm != reference} if isinstance(reference, str) else reference
    for name in {reference} if isinstance(reference, str) else set(reference.values()):
        if name not in scores:
            raise InputError("the reference is one of the arms", got=name, fix=f"Name one of {', '.join(scores)}")
    arms = [arm for arm in scores if arm in against]
    pairs = {arm: _differences(scores, arm, against[arm], higher_is_better) for arm in arms}
    raw = {arm: paired_t(pairs[arm][1]).p for arm in arms}
    tested = [arm for arm in arms if raw[arm] is not None]
    corrected = dict(zip(tested, holm([p for p in raw.values() if p is not None]), strict=True))
    # Once r contrasts are settled, the strictest that Holm asks of one of the rest is LEVEL / (m - r).
    open_ones = len(tested) - sum(p < LEVEL for p in corrected.values())
    return [_contrast(arm, against[arm], *pairs[arm], margin, corrected.get(arm), LEVEL / max(open_ones, 1))
            for arm in arms]


def _differences(scores: Mapping[str, Mapping[int, float]], arm: str, reference: str,
                 higher_is_better: bool) -> tuple[list[int], list[float]]:
    seeds = sorted(set(scores[arm]) & set(scores[reference]))
    if not seeds:
        raise InputError(f"arm {arm!r} and the reference share a seed", got=sorted(scores[arm]),
                         fix=f"Run both with the same seeds; {reference!r} has {sorted(scores[reference])}")
    sign = 1 if higher_is_better else -1
    return seeds, [sign * (scores[arm][seed] - scores[reference][seed]) for seed in seeds]


def _contrast(arm: str, reference: str, seeds: list[int], differences: list[float], margin: float,
              p_holm: float | None, alpha: float) -> Contrast:
    estimate, p_same = paired_t(differences), equivalence(differences, margin)
    kind = _kind(len(seeds), estimate.mean, p_holm, p_same)
    return Contrast(
        arm=arm, reference=reference, seeds=seeds, differences=differences, mean=estimate.mean, sd=estimate.sd,
        low=estimate.low, high=estimate.high, p_t=estimate.p, p_holm=p_holm, p_sign_flip=sign_flip(differences),
        p_equivalence=p_same, kind=kind, leaning=_leaning(estimate.mean, differences),
        seeds_to_settle=None if kind != INCONCLUSIVE else seeds_to_settle(
            differences, margin, limit=LIMIT, alpha=alpha, start=len(seeds) + 1))


def _kind(n: int, mean: float, p_holm: float | None, p_same: float | None) -> str:
    if n < FIRM_SEEDS or p_holm is None or p_same is None:
        return LEANING
    if p_same < SAME_LEVEL:
        return SAME
    return INCONCLUSIVE if p_holm >= LEVEL else HELPS if mean > 0 else HURTS


def _leaning(mean: float, differences: Sequence[float]) -> str:
    # 0.11 - 0.10 and 0.96 - 0.97 do not cancel to 0 in floating point; such a rest is no leaning.
    if abs(mean) <= 1e-9 * max(abs(value) for value in differences):
        return NO_DIFFERENCE
    return HELPS if mean > 0 else HURTS
