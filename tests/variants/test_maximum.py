import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dropkit as dk
from dropkit.variants.maximum import MaxDropout, max_dropout

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@given(st.integers(0, 2**32), st.integers(1, 16), st.booleans())
def test_exactly_the_upper_part_of_the_range_is_dropped(seed, sixteenths, per_sample):
    # Integers of a range of 16: normalised values and rates are exact, so that equality with the formula is too.
    x = torch.randint(0, 17, (4, 50), generator=torch.Generator().manual_seed(seed)).double() - 5
    x[:, 0], x[:, 1] = -5, 11
    normalised = (x + 5) / 16
    y = max_dropout(x, sixteenths / 16, per_sample=per_sample)
    assert torch.equal(y, torch.where(normalised > 1 - sixteenths / 16, 0.0, x))


def test_survivors_are_the_input_and_not_its_normalised_values():
    # A published port returns (x - min) / (max - min) instead of x.
    x = torch.randn(1000) * 3 + 10
    y = max_dropout(x, 0.3)
    assert torch.equal(y[y != 0], x[y != 0])
    assert bool((x[y == 0].min() > x[y != 0].max()).all())
    assert y[x.argmax()] == 0


def test_ranges_of_single_examples():
    x = torch.stack([torch.arange(9.0), 100 * torch.arange(9.0)])
    assert torch.equal((max_dropout(x, 0.25) == 0).sum(1), torch.tensor([1, 3]))  # the 0 that was there, 700 and 800
    y = max_dropout(x, 0.25, per_sample=True)
    assert torch.equal((y == 0).sum(1), torch.tensor([3, 3]))
    for one, row in zip(x, y, strict=True):
        assert torch.equal(max_dropout(one, 0.25), row)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("value", [0.0, -3.0, math.nan, math.inf])
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_constant_data_loses_nothing(per_sample, value, p):
    x = torch.full((3, 4), value)
    assert torch.allclose(max_dropout(x, p, per_sample=per_sample), x, equal_nan=True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("p", [0.3, 0.9, 1.0])
def test_what_is_not_finite_shows(bad, p):
    x = torch.rand(2, 50) + 1
    x[0, 7] = bad
    assert torch.allclose(max_dropout(x, p), x, equal_nan=True)
    y = max_dropout(x, p, per_sample=True)
    assert torch.allclose(y[0], x[0], equal_nan=True)
    assert torch.equal(y[1], max_dropout(x[1], p))
    assert bool((y[1] == 0).any())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_keeps_the_rule(dtype):
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    y, wide = max_dropout(x, 0.3), max_dropout(x.to(torch.promote_types(dtype, torch.float32)), 0.3)
    assert y.dtype is dtype
    assert torch.equal(y, wide.to(dtype))
    assert 0 < int((y == 0).sum()) < 1000


def test_a_range_beyond_half_precision():
    x = torch.tensor([-60000.0, 0.0, 1.0, 60000.0]).half()
    assert max_dropout(x, 0.25).tolist() == [-60000.0, 0.0, 1.0, 0.0]


def test_rate_one_keeps_the_smallest_alone():
    x = torch.tensor([3.0, -2.0, 5.0, -2.0], requires_grad=True)
    y = max_dropout(x, 1.0)
    y.sum().backward()
    assert y.tolist() == [0.0, -2.0, 0.0, -2.0]
    assert x.grad.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_gradients_pass_where_the_input_does():
    x = torch.rand(1000, requires_grad=True)
    y = max_dropout(x, 0.3)
    y.sum().backward()
    assert torch.equal(x.grad, (y != 0).float())


def test_it_is_not_random_and_counts_no_use():
    x, state = torch.rand(100), torch.get_rng_state()
    module = MaxDropout(0.3)
    with dk.keyed(1):
        first = module(x)
        later = dk.functional.dropout(x)
    assert torch.equal(module(x), first)
    assert torch.equal(state, torch.get_rng_state())
    for p in (0.3, 0.0):
        with dk.keyed(1):
            max_dropout(x, p)
            max_dropout(x, p)
            assert torch.equal(dk.functional.dropout(x), later)


@pytest.mark.parametrize("per_sample", [False, True])
def test_empty_data(per_sample):
    for shape in ((0, 3), (3, 0), (0,)):
        assert max_dropout(torch.ones(shape), per_sample=per_sample).shape == shape
    assert max_dropout(torch.tensor(2.0)) == 2.0


def test_modules_pass_their_settings_on():
    x = torch.randn(4, 20)
    module = MaxDropout(0.4, per_sample=True)
    assert torch.equal(module(x), max_dropout(x, 0.4, per_sample=True))
    assert module.eval()(x) is x
    assert repr(MaxDropout()) == "MaxDropout(p=0.3)"


def test_wrong_data_is_refused():
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(dk.InputError, match="real floating-point"):
            max_dropout(torch.ones(3, dtype=dtype))
    with pytest.raises(dk.InputError, match="dimension 0 is the batch"):
        max_dropout(torch.tensor(1.0), per_sample=True)
    with pytest.raises(dk.InputError, match="probability of dropping"):
        max_dropout(torch.ones(3), 1.5, training=False)
