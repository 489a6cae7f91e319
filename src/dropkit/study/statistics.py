"""Statistics of paired differences: one number a seed, an arm's score minus the reference's with the same seed.

The choice of tests rests on simulation: at a nominal one-sided 2.5 % the paired t test raises 2.2 to 2.7 % false alarms,
the percentile bootstrap 6 to 13 %, and "wins with three seeds in four" 12 to 18 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.core.errors import InputError, MissingExtraError

SIGN_FLIP_SEEDS = 6
"""Fewest seeds at which the sign-flip test can fall below 0.05: with 5 its smallest p is 2 / 2**5 = 0.0625."""

_EXACT_FLIPS = 2**16


@dataclass(frozen=True)
class PairedT:
    """Estimate and paired t test of a mean difference; all but ``mean`` are None for a single difference."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p: float | None


def paired_t(differences: Sequence[float], confidence: float = 0.95) -> PairedT:
    """Estimate the mean of paired differences with Student's interval and two-sided test.

    With n differences of mean m and standard deviation s (divisor n - 1), the interval is m ± t s / √n, where t is the
    quantile of Student's distribution with n - 1 degrees of freedom at (1 + confidence) / 2. The test asks whether the
    true mean is 0. Differences that are all alike have s = 0: the interval shrinks to the value, and p is 1 where the
    value is 0, and 0 elsewhere.

    Args:
        differences: one finite number a seed, at least one.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate; with a single difference only its mean.

    Raises:
        InputError: there are no differences, one is not finite, or ``confidence`` is out of range.

    Example:
        >>> estimate = paired_t([1.0, 2.0, 3.0])
        >>> estimate.mean, estimate.sd, round(estimate.p, 4)
        (2.0, 1.0, 0.0742)

    References:
        Student, "The Probable Error of a Mean", Biometrika, 1908.
    """
    values = _checked(differences)
    if not 0 < confidence < 1:
        raise InputError("confidence lies in (0, 1)", got=confidence, fix="Pass the coverage wanted, such as 0.95")
    mean, sd = _mean_sd(values)
    if sd is None:
        return PairedT(mean, None, None, None, None)
    if sd == 0:
        return PairedT(mean, 0.0, mean, mean, 1.0 if mean == 0 else 0.0)
    student = _stats().t(len(values) - 1)
    error = sd / math.sqrt(len(values))
    half = float(student.ppf((1 + confidence) / 2)) * error
    return PairedT(mean, sd, mean - half, mean + half, float(2 * student.sf(abs(mean) / error)))


def welch(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> PairedT:
    """Estimate the difference of the means of two independent samples, without taking their variances for equal.

    The estimate is the mean of ``first`` minus that of ``second``, its interval Welch's, its p the two-sided test's.

    Args:
        first: finite numbers, at least one.
        second: finite numbers, at least one.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The estimate; only its mean where a sample has one value or neither varies. ``sd`` is None.

    Raises:
        InputError: a sample is empty or holds a value that is not finite.

    Example:
        >>> found = welch([2.0, 3.0, 4.0], [1.0, 2.0, 3.0])
        >>> found.mean, round(found.low, 2), round(found.high, 2), round(found.p, 3)
        (1.0, -1.27, 3.27, 0.288)

    References:
        Welch, "The generalization of Student's problem when several different population variances are involved",
        Biometrika, 1947.
    """
    one, two = _checked(first), _checked(second)
    (mean_one, sd_one), (mean_two, sd_two) = _mean_sd(one), _mean_sd(two)
    if sd_one is None or sd_two is None or sd_one == sd_two == 0:
        return PairedT(mean_one - mean_two, None, None, None, None)
    found = _stats().ttest_ind(one, two, equal_var=False)
    interval = found.confidence_interval(confidence)
    return PairedT(mean_one - mean_two, None, float(interval.low), float(interval.high), float(found.pvalue))


def sign_flip(differences: Sequence[float]) -> float | None:
    """Test a mean difference by flipping signs: the two-sided p, or None under 6 differences.

    If the arms do not differ, every pattern of signs is equally likely; p is twice the share of the 2**n patterns whose
    mean is at least as extreme as the one seen, on its side, and at most 1. It assumes symmetry but no normal
    distribution. Up to 16 differences every pattern is visited; beyond that 65,535 random ones with a fixed seed.

    Args:
        differences: one finite number a seed, at least one.

    Raises:
        InputError: there are no differences, or one is not finite.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])  # 2 of 64 patterns
        0.03125

    References:
        R. A. Fisher, "The Design of Experiments", 1935.
    """
    values = _checked(differences)
    if len(values) < SIGN_FLIP_SEEDS:
        return None
    import numpy as np

    exact = 2 ** len(values) <= _EXACT_FLIPS
    outcome = _stats().permutation_test(
        (np.asarray(values),), np.mean, permutation_type="samples", vectorized=True,
        n_resamples=_EXACT_FLIPS if exact else _EXACT_FLIPS - 1, random_state=np.random.default_rng(0))
    return float(outcome.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number by Holm's step-down method.

    The i-th smallest of m values (i from 0) is multiplied by m - i; none may fall below a smaller one's result, nor
    exceed 1. Rejecting what falls below a level keeps the chance of any false rejection under that level, however the
    tests depend on each other.

    Args:
        p_values: numbers in [0, 1], in any order; may be empty.

    Returns:
        The corrected values, in the order given.

    Raises:
        InputError: a value lies outside [0, 1] or is not a number.

    Example:
        >>> holm([0.25, 0.125])
        [0.25, 0.25]

    References:
        S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise InputError("a p value lies in [0, 1]", got=p, fix="Pass the results of tests")
    corrected, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = floor
    return corrected


def equivalence(differences: Sequence[float], margin: float) -> float | None:
    """Test whether a mean difference lies within ± ``margin``, by two one-sided paired t tests; None for one difference.

    One test asks whether the mean exceeds -margin, the other whether it falls short of +margin; the larger p is
    returned. A small one shows that no difference worth having exists. Differences that are all alike give 0 strictly
    inside the margin and 1 elsewhere.

    Args:
        differences: one finite number a seed, at least one.
        margin: the smallest difference worth having, in the unit of the differences; at least 0.

    Raises:
        InputError: there are no differences, one is not finite, or ``margin`` is negative or not finite.

    Example:
        >>> round(equivalence([-0.1, 0.0, 0.1], margin=0.5), 4)
        0.0065

    References:
        D. J. Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the
        Equivalence of Average Bioavailability", Journal of Pharmacokinetics and Biopharmaceutics, 1987.
    """
    values, bound = _checked(differences), _checked_margin(margin)
    mean, sd = _mean_sd(values)
    if sd is None:
        return None
    if sd == 0:
        return 0.0 if abs(mean) < bound else 1.0
    # The larger p belongs to the nearer bound, so one test on |mean| is both.
    return float(_stats().t.cdf((abs(mean) - bound) / (sd / math.sqrt(len(values))), len(values) - 1))


def seeds_to_settle(differences: Sequence[float], margin: float, power: float = 0.8, limit: int = 1000, *,
                    alpha: float = 0.05, start: int = 2) -> int | None:
    """Estimate how many seeds would end the question, were the mean and the spread seen so far the true ones.

    That is the smallest n for which the two-sided paired t test at level ``alpha``, or the equivalence test against
    ``margin`` at level 0.025, would conclude with probability ``power``. Both probabilities come from the noncentral t
    distribution; for the equivalence test that is the usual approximation, a little low for very few seeds.

    Args:
        differences: one finite number a seed, at least one.
        margin: the smallest difference worth having, in the unit of the differences; at least 0.
        power: probability of a conclusion, in (0, 1).
        limit: the largest number of seeds considered.
        alpha: level of the t test; smaller than 0.05 where it must withstand a correction for several contrasts.
        start: the smallest number of seeds considered, at least 2.

    Returns:
        The number of seeds in all, not in addition; None with a single difference, or where ``limit`` does not suffice.

    Raises:
        InputError: a value is out of its range.

    Example:
        >>> seeds_to_settle([1.0, -1.0, 2.0, 0.5, -0.5, 1.5], margin=0.1)  # mean 0.58, standard deviation 1.16
        33

    References:
        K. F. Phillips, "Power of the Two One-Sided Tests Procedure in Bioequivalence", Journal of Pharmacokinetics and
        Biopharmaceutics, 1990.
    """
    values, bound = _checked(differences), _checked_margin(margin)
    for name, share in (("power", power), ("alpha", alpha)):
        if not 0 < share < 1:
            raise InputError(f"{name} lies in (0, 1)", got=share, fix="Pass a probability such as 0.8 or 0.05")
    if start < 2:
        raise InputError("a comparison starts at 2 seeds", got=start, fix="Pass start=2 or more")
    mean, sd = _mean_sd(values)
    if sd is None or start > limit:
        return None
    if sd == 0:
        return start if mean != 0 or bound > 0 else None
    import numpy as np

    n = np.arange(start, limit + 1)
    enough = np.flatnonzero(_power(abs(mean) / sd, bound / sd, n, alpha) >= power)
    return int(n[enough[0]]) if enough.size else None


def _power(effect: float, margin: float, n: Any, alpha: float) -> Any:
    """Return the better test's chance to conclude at each ``n``; ``effect`` and ``margin`` in standard deviations."""
    import numpy as np

    stats, root, freedom = _stats(), np.sqrt(n), n - 1
    differ = stats.nct.sf(stats.t.ppf(1 - alpha / 2, freedom), freedom, effect * root)
    critical = stats.t.ppf(0.975, freedom)
    below = stats.nct.cdf(-critical, freedom, (effect - margin) * root)
    above = stats.nct.cdf(critical, freedom, (effect + margin) * root)
    return np.fmax(differ, below - above)


def _mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    if len(values) == 1:
        return values[0], None
    if min(values) == max(values):  # exact, where a rounded mean would leave a spread of 1e-17 and a t of 1e15
        return values[0], 0.0
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _checked(differences: Sequence[float]) -> list[float]:
    values = [float(value) for value in differences]
    if not values:
        raise InputError("a comparison needs at least one paired difference", got=values,
                         fix="Run both arms with the same seeds")
    if not all(math.isfinite(value) for value in values):
        raise InputError("paired differences are finite", got=values,
                         fix="Score a diverged run as the best constant prediction instead of NaN")
    return values


def _checked_margin(margin: float) -> float:
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError("a margin is a finite number, at least 0", got=margin,
                         fix="Pass the smallest difference worth having, in the metric's unit, such as 0.005")
    return float(margin)


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError("scipy", "study") from error
    return stats
