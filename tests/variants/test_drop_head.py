import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.drop_head import DropHead, drop_head

FALSE_ALARM = 1e-6
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def kept(y):
    """Which heads of (N, H, T, D) are not zero."""
    return (y != 0).flatten(2).any(-1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_heads_are_zero_or_scaled_by_the_heads_that_are_left(p, per):
    x = torch.randn(50, 6, 3, 2, dtype=torch.float64)
    y = drop_head(x, p, per=per)
    heads = kept(y)
    scale = 6 / heads.sum(1).double()
    assert torch.equal(y, torch.where(heads[..., None, None], x * scale[:, None, None, None], 0))
    assert bool((heads == heads[:1]).all()) is (per == "batch")


@pytest.mark.parametrize("p", [0.5, 0.99, 1 - 2.0**-31, 1.0])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_all_heads_are_never_dropped(p, heads):
    # H / 0 is what multiplies everything by NaN where nobody guards.
    x = torch.ones(2000, heads, 1, 1)
    y = drop_head(x, p, generator=torch.Generator().manual_seed(1))
    assert bool(kept(y).any(1).all())
    assert torch.allclose(y.sum(1), torch.full((2000, 1, 1), float(heads)))
    if p == 1:
        assert bool((kept(y).sum(1) == 1).all())


def test_the_head_that_is_left_may_be_any():
    count, heads = 20_000, 5
    y = drop_head(torch.ones(count, heads, 1, 1), 1.0, generator=torch.Generator().manual_seed(1))
    bound = math.sqrt(math.log(2 * heads / FALSE_ALARM) / (2 * count))  # Hoeffding, for all heads at once
    assert bool((kept(y).double().mean(0) - 1 / heads).abs().max() < bound)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("heads", [2, 8])
def test_heads_are_dropped_at_the_rate(p, heads):
    count = 20_000
    y = drop_head(torch.ones(count, heads, 1, 1), p, generator=torch.Generator().manual_seed(1))
    bound = math.sqrt(math.log(2 * heads / FALSE_ALARM) / (2 * count))
    expected = p - p**heads / heads  # one of H is kept where all would be dropped
    assert bool(((~kept(y)).double().mean(0) - expected).abs().max() < bound)


def test_masks_are_nested():
    x, previous = torch.ones(500, 4, 1, 1), torch.ones(500, 4, dtype=torch.bool)
    for p in (0.1, 0.5, 0.9, 1.0):
        with dk.keyed(1):
            heads = kept(drop_head(x, p))
        assert bool((heads <= previous).all())
        assert bool((heads < previous).any())
        previous = heads


def test_layouts_mean_the_same_heads():
    x = torch.randn(3, 4, 5, 2)
    with dk.keyed(1):
        y = drop_head(x, 0.5)
    with dk.keyed(1):
        assert torch.equal(drop_head(x.transpose(1, 2), 0.5, head_dim=2).transpose(1, 2), y)
    with dk.keyed(1):
        assert torch.equal(drop_head(x, 0.5, head_dim=-3), y)
    with dk.keyed(1):
        assert torch.equal(drop_head(x[0], 0.5, head_dim=-3), y[0])
    assert not torch.equal(y, x)


@pytest.mark.parametrize("shape", [(3, 0, 2), (0, 4, 2), (3, 4, 0)])
@pytest.mark.parametrize("per", ["sample", "batch"])
def test_empty_data(shape, per):
    x = torch.randn(shape, requires_grad=True)
    y = drop_head(x, 0.5, per=per)
    assert y.shape == shape
    assert torch.autograd.grad(y.sum(), x)[0].shape == shape


def test_data_without_heads_counts_as_a_use():
    x = torch.ones(8, 4, 1)
    with dk.keyed(1):
        drop_head(x, 0.5)
        expected = drop_head(x, 0.5)
    with dk.keyed(1):
        drop_head(torch.ones(3, 0, 2), 0.5)
        assert torch.equal(drop_head(x, 0.5), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_dropped_leaves_no_trace(value):
    base = torch.randn(8, 4, 3, 2)
    with dk.keyed(1):
        heads = kept(drop_head(base.abs() + 1, 0.5))
    x = torch.where(heads[..., None, None], base, value).requires_grad_()
    with dk.keyed(1):
        y = drop_head(x, 0.5)
    grad, = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(kept(y), heads)
    assert bool(y.isfinite().all())
    scale = (4 / heads.sum(1)).view(8, 1, 1, 1)
    assert torch.equal(grad, torch.where(heads[..., None, None], scale, 0).expand_as(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_is_rounded_once(dtype):
    x = torch.randn(20, 7, 3, 2).to(dtype)
    with dk.keyed(1):
        y = drop_head(x, 0.5)
    with dk.keyed(1):
        assert torch.equal(y, drop_head(x.float(), 0.5).to(dtype))
    assert y.dtype is dtype


@pytest.mark.parametrize("per", ["sample", "batch"])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_gradients_to_second_order(per):
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def drop(x):
        return drop_head(x, 0.5, per=per, generator=torch.Generator().manual_seed(2))

    assert 0 < int((drop(x) == 0).sum()) < x.numel()
    assert torch.autograd.gradcheck(drop, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(drop, x)


def test_little_is_saved_for_the_backward_pass():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        drop_head(torch.randn(4, 8, 64, 32, requires_grad=True), 0.5)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 4 * 8 * (1 + 8)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"p": 1.5}, "probability of dropping"), ({"head_dim": 4}, "head_dim is a dimension"),
    ({"head_dim": -5}, "head_dim is a dimension"), ({"head_dim": 1.0}, "head_dim is an integer"),
    ({"head_dim": True}, "head_dim is an integer"), ({"per": "head"}, "per is"), ({"per": "head", "training": False}, "per is"),
])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(dk.InputError, match=message):
        drop_head(torch.ones(2, 3, 4, 5), **arguments)


@pytest.mark.parametrize(("arguments", "message"), [({"head_dim": None}, "head_dim is"), ({"per": None}, "per is"),
                                                    ({"p": 2}, "probability of dropping")])
def test_wrong_settings_are_refused_when_made(arguments, message):
    with pytest.raises(dk.InputError, match=message):
        DropHead(**arguments)


def test_the_module_passes_its_settings_on():
    module, x = DropHead(0.5, head_dim=2, per="batch"), torch.randn(3, 5, 4, 2)
    with dk.keyed(1):
        y = module(x)
    with dk.keyed(1):
        assert torch.equal(y, drop_head(x, 0.5, head_dim=2, per="batch"))
    assert repr(module) == "DropHead(p=0.5, head_dim=2, per='batch')"
    assert repr(DropHead()) == "DropHead(p=0.1)"
