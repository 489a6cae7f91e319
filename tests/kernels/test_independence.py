"""Statistical tests of the masks, through the functions that layers use, and of the tests themselves on bad generators.

Every check returns a p-value, and fails below LEVEL. The seeds are fixed: a check that passes once always passes.
"""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, chi2

from dropkit.core.streams import keyed, site_key
from dropkit.kernels.dispatch import apply_mask

# A sound generator fails a check less than once in 10^6. Rates are judged by exact binomial tails. Tables are judged by
# the chi-square distribution, which underrates the tails of counts: at z standard deviations and an expected count m by
# about exp(z^3 / (6 sqrt m)). That is 3.5 at z = 5.3, which is 10^-7, and 6.6 at z = 6.1, which is 10^-7 / 64, for the
# least count allowed here: hence a level of 10^-7.
FALSE_ALARM, LEVEL, LEAST = 1e-6, 1e-7, 400
AXES = ["seed", "step", "pass_index", "name"]
rates = pytest.mark.parametrize("p", [0.5, 0.1, 0.3333])  # no ties, and ties that are refined in 1 element of 256


def exact(p):
    """The probability with which the contract drops at rate p."""
    return math.floor(p * 2**32 + 0.5) / 2**32


def real(shape, p, seed=2026, step=0, pass_index=0, name="layers.0"):
    """Where dropkit drops."""
    with keyed(seed, step, pass_index=pass_index):
        number, stream = site_key(name)
    rate = torch.tensor(p, dtype=torch.float64)
    return (apply_mask(torch.ones(shape), number, rate, shape, stream, False) == 0).numpy()


# The checks. `bits` has one column for each of the k decisions that are tabulated together; rows are independent.


def table(bits, p):
    """Chi-square of all 2^k patterns against their known probabilities; rare patterns are pooled."""
    k = bits.shape[1]
    patterns = np.arange(2**k)
    ones = sum(patterns >> i & 1 for i in range(k))
    expected = len(bits) * exact(p) ** ones * (1 - exact(p)) ** (k - ones)
    seen = np.bincount(bits @ (1 << np.arange(k)), minlength=2**k)
    order = np.argsort(expected)
    expected, seen = expected[order], seen[order]
    pooled = int(np.searchsorted(np.cumsum(expected), LEAST)) + 1
    starts = np.array([0, *range(pooled, 2**k)])
    expected, seen = np.add.reduceat(expected, starts), np.add.reduceat(seen, starts)
    assert expected.min() >= LEAST
    return float(chi2.sf(((seen - expected) ** 2 / expected).sum(), len(starts) - 1))


def neighbours(source, p):
    """Pairs, and groups of four, of elements that follow each other."""
    mask = source((2**19,), p)
    return 2 * min(table(mask.reshape(-1, k), p) for k in (2, 4))


def lags(source, p):
    """Pairs of elements at each distance from 1 to 64; of two runs of that many elements the first meets the second."""
    mask, values = source((2**18,), p), []
    for lag in range(1, 65):
        runs = mask[: len(mask) // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
        values.append(table(np.column_stack((runs[:, 0].ravel(), runs[:, 1].ravel())), p))
    return 64 * min(values)


def between(masks, p):
    """Masks that follow each other, element by element, in pairs and in fours; and each against the next one, shifted."""
    values = [table(masks.reshape(-1, k, masks.shape[1]).swapaxes(1, 2).reshape(-1, k), p) for k in (2, 4)]
    for shift in (1, 16):
        values.append(table(np.column_stack((masks[0::2, shift:].ravel(), masks[1::2, :-shift].ravel())), p))
    return len(values) * min(values)


def along(axis, source, p):
    """Masks of 64 seeds, steps, passes or sites in a row."""
    places = [f"layers.{i}" for i in range(64)] if axis == "name" else range(64)
    return between(np.stack([source((2**13,), p, **{axis: place}) for place in places]), p)


def rows(source, p):
    """Rows of one mask; their length is not a multiple of a block's."""
    return between(source((512, 1001), p), p)


def realised(source, p):
    """The number of dropped elements, by the exact binomial distribution: twice the smaller tail."""
    n = 2**20
    dropped = int(source((n,), p).sum())
    return 2 * float(min(binom.cdf(dropped, n, exact(p)), binom.sf(dropped - 1, n, exact(p))))


@rates
@pytest.mark.parametrize("check", [neighbours, lags, rows])
def test_elements_of_a_mask_are_independent(check, p):
    assert check(real, p) > LEVEL


@rates
@pytest.mark.parametrize("axis", AXES)
def test_masks_are_independent(axis, p):
    assert along(axis, real, p) > LEVEL


@pytest.mark.parametrize("p", [1e-6, 1e-3, 1 / 256, 0.1, 0.5, 0.9, 1 - 1e-3, 1 - 1e-6])
def test_the_realised_rate_is_the_rate(p):
    assert realised(real, p) > FALSE_ALARM


# Bad generators, one for each thing that the checks look at: a check that lets one pass checks nothing.


def forgetting(axis):
    """The same mask at every seed, step, pass or site."""
    return lambda shape, p, **place: real(shape, p, **{key: value for key, value in place.items() if key != axis})


def shifted(axis, shift):
    """The mask of the next seed, step, pass or site is this one's, moved."""
    def source(shape, p, **place):
        index = int(str(place[axis]).removeprefix("layers."))
        return real((64 * shift + shape[0],), p)[(63 - index) * shift :][: shape[0]]
    return source


def repeating(lag):
    """One short mask over and over."""
    return lambda shape, p, **place: np.resize(real((lag,), p, **place), shape)


def congruential(shape, p, **place):
    """The low byte of a linear congruential generator: it has a period of 256."""
    n = math.prod(shape)
    steps = np.cumprod(np.full(n, 1664525, np.uint64)) & np.uint64(255)
    return (steps < math.floor(p * 256)).reshape(shape)


def sticky(shape, p, **place):
    """Each element is the one before it with a probability of 4 %."""
    mask, copies = (real(shape, rate, name=name) for rate, name in ((p, "layers.0"), (0.04, "layers.1")))
    return np.where(copies, np.roll(mask, 1), mask)


def parity(shape, p, **place):
    """Of four elements the last makes the number of ones even: any three of them are independent at p = 0.5."""
    mask = real(shape, p).reshape(-1, 4)
    mask[:, 3] = mask[:, :3].sum(1) % 2
    return mask.reshape(shape)


def same_rows(shape, p, **place):
    """Each row of an even number repeats in the row after it."""
    return np.repeat(real((shape[0] // 2, *shape[1:]), p), 2, axis=0)


def coarse(shape, p, **place):
    """Rates in steps of 1/256, as where a byte is compared and ties are not refined."""
    return real(shape, math.floor(p * 256) / 256)


@rates
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("bad", [forgetting, lambda axis: shifted(axis, 1), lambda axis: shifted(axis, 16)],
                         ids=["forgetting", "shifted by 1", "shifted by 16"])
def test_dependent_masks_are_found(axis, bad, p):
    assert along(axis, bad(axis), p) < LEVEL


@rates
@pytest.mark.parametrize("lag", [1, 7, 37, 64])
def test_repeating_masks_are_found(lag, p):
    assert lags(repeating(lag), p) < LEVEL


@rates
@pytest.mark.parametrize(("check", "bad"), [
    (neighbours, congruential), (lags, congruential), (neighbours, sticky), (lags, sticky), (rows, same_rows),
], ids=lambda function: function.__name__)
def test_dependent_elements_are_found(check, bad, p):
    assert check(bad, p) < LEVEL


def test_dependence_of_four_that_no_pair_shows_is_found():
    assert table(parity((2**19,), 0.5).reshape(-1, 2), 0.5) > LEVEL
    assert neighbours(parity, 0.5) < LEVEL


@pytest.mark.parametrize("p", [1e-3, 0.1, 1 - 1e-3])
def test_rates_in_steps_of_a_byte_are_found(p):
    assert realised(coarse, p) < FALSE_ALARM
