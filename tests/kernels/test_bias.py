"""The mean of half-precision outputs at p = 0.1: what the mask and the scale do to it, and what the final rounding does.

The mask's own sampling noise is taken out: outputs are compared with the same elements of the input times the exact scale.
Only the last rounding, to 11 or 8 bits, shows then. Its mean is no property of dropout but of the data: over every product
of one mantissa with the scale it is a fixed number, and over smooth data these numbers cancel nearly, but not quite.
"""

import math

import pytest
import torch

from dropkit.kernels.dispatch import apply_mask

P = 0.1
SCALE = 2**32 / (2**32 - math.floor(P * 2**32 + 0.5))
FALSE_ALARM = 1e-6
LARGEST = 8.0  # beyond it a normal variable is less than once in 10^15
halves = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def apply(x, seed=1):
    return apply_mask(x, torch.tensor(seed), torch.tensor(P, dtype=torch.float64), x.shape, 0, True)


def kept(x, seed=1):
    rate = torch.tensor(P, dtype=torch.float64)
    return apply_mask(torch.ones(x.shape), torch.tensor(seed), rate, x.shape, 0, False) != 0


def half_ulp(values, dtype):
    """Half the distance of neighbouring numbers at |values|: the most that one rounding to nearest moves them."""
    info = torch.finfo(dtype)
    exponent = values.abs().clamp(min=info.smallest_normal).frexp().exponent.double() - 1
    return info.eps * 2.0**exponent / 2


def everything(dtype):
    """Every finite number of the type, in increasing order but for the sign of zero."""
    values = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    return values[values.isfinite()].sort().values


def after_dropout(values):
    """What each value becomes where it is kept: 12 masks all drop the same one of 2^16 values less than once in 10^7."""
    result = torch.full_like(values, math.nan)
    for seed in range(12):
        keep = kept(values, seed)
        result[keep] = apply(values, seed)[keep]
    assert not result.isnan().any()
    return result


def cell_probabilities(values, cdf):
    """The probability that a continuous variable rounds to each of the values."""
    edges = (values[1:].double() + values[:-1].double()) / 2
    inner = torch.tensor([cdf(edge) for edge in edges.tolist()], dtype=torch.float64)
    return torch.diff(inner, prepend=torch.zeros(1), append=torch.ones(1))


CONTINUOUS = {
    "N(0, 1)": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
    "|N(0, 1)|": lambda x: math.erf(x / math.sqrt(2)) if x > 0 else 0.0,
    "U(0, 1)": lambda x: min(max(x, 0.0), 1.0),
}


@halves
def test_every_value_is_scaled_and_rounded_to_nearest(dtype):
    values = everything(dtype)
    product = values.double() * SCALE
    result = after_dropout(values)
    finite = product.abs() < torch.finfo(dtype).max * (1 + torch.finfo(dtype).eps / 4)
    assert bool((result[~finite].isinf()).all())
    # Rounded by way of float32: 2^-24 of the product, twice, on top of half an ulp.
    limit = half_ulp(result.double(), dtype) + 2**-23 * product.abs()
    assert bool(((result.double() - product).abs() <= limit)[finite].all())


@halves
@pytest.mark.parametrize("name", CONTINUOUS)
def test_mask_and_scale_leave_no_bias(dtype, name):
    # Before the final rounding: the same input in float32. One rounding of the scale and one of the product, 2^-24 each.
    x = draw(name, dtype)[0].abs()
    before = apply(x.float()).double().sum()
    assert abs(before / (x.double()[kept(x)].sum() * SCALE) - 1) <= (1 + 2**-24) ** 2 - 1
    assert torch.equal(apply(x), apply(x.float()).to(dtype))


def draw(name, dtype, n=2**20):
    """Data of a continuous distribution rounded to the type, with all values it may have and their probabilities."""
    values = everything(dtype)
    values = values[values.abs() <= LARGEST]
    weights = cell_probabilities(values, CONTINUOUS[name])
    uniform = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    index = torch.searchsorted(weights.cumsum(0), uniform).clamp(max=len(values) - 1)
    return values[index], values, weights


@halves
@pytest.mark.parametrize("name", CONTINUOUS)
def test_total_bias_is_that_of_rounding_to_nearest(dtype, name):
    x, values, weights = draw(name, dtype)
    error = (values.double() * SCALE).to(torch.float32).to(dtype).double() - values.double() * SCALE
    mean = float((weights * error).sum())
    variance = float((weights * error**2).sum()) - mean**2
    keep = kept(x)
    n = int(keep.sum())
    measured = float((apply(x).double() - x.double() * SCALE)[keep].sum()) / n
    # Bernstein: P(|mean of n - expected| >= t) <= 2 exp(-n t^2 / (2 (variance + range t / 3))), solved for t.
    logarithm, largest = math.log(2 / FALSE_ALARM), 2 * float(error.abs().max())
    a = logarithm * largest / (3 * n)
    assert abs(measured - mean) < a + math.sqrt(a * a + 2 * logarithm * variance / n)


@halves
@pytest.mark.parametrize("name", CONTINUOUS)
def test_total_bias_of_smooth_data_is_second_order(dtype, name):
    # Without sampling: the kernel's outputs for all inputs, weighted by their probabilities. A single rounding is off by up
    # to u = eps / 2 of its value. At a scale of 10/9 the errors of nine mantissas in a row cancel, as they are k/9 of an ulp
    # for k from -4 to 4; what is left comes from the density's change over nine mantissas: of the order of u^2.
    _, values, weights = draw(name, dtype, 1)
    change = after_dropout(values).double() - values.double() * SCALE
    bias = float((weights * change * values.double().sign()).sum()) / float((weights * values.double().abs()).sum() * SCALE)
    assert abs(bias) < 2 * (torch.finfo(dtype).eps / 2) ** 2


@halves
def test_constant_data_shows_the_rounding_of_one_number(dtype):
    # No rounding to nearest can do better: 10/9 lies between two numbers of the type, and every element gets the nearer.
    x = torch.ones(10_000, dtype=dtype)
    y = apply(x)[kept(x)].double()
    assert bool((y == y[0]).all())
    neighbours = torch.tensor([round(SCALE / torch.finfo(dtype).eps) + k for k in (-1, 0, 1)]) * torch.finfo(dtype).eps
    assert float((y[0] - SCALE).abs()) == float((neighbours.double() - SCALE).abs().min())
