import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.draw import draw_keep
from dropkit.variants.drop_key import DropKey, drop_key, softmax_rows

FALSE_ALARM = 1e-6
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
types = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def contract_mask(shape, p, seed):
    with dk.keyed(seed):
        return draw_keep(shape, torch.tensor(p, dtype=torch.float64))


def guarded(z, keep):
    """The rule, row by row: a row that would have nothing but -inf left is left as it is."""
    expected = torch.where(keep.expand_as(z), z, -math.inf)
    for row, given in zip(expected.view(-1, z.shape[-1]), z.reshape(-1, z.shape[-1]), strict=True):
        if bool((row == -math.inf).all()):
            row.copy_(given)
    return expected


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("share_dims", "mask_shape"), [((), (3, 2, 40, 5)), ((-2,), (3, 2, 1, 5)), ((1, -2), (3, 1, 1, 5))])
def test_logits_are_kept_or_minus_infinity(p, share_dims, mask_shape):
    z = torch.randn(3, 2, 40, 5)
    z[:, :, ::3, 1:] = -math.inf  # rows with one key
    z[:, :, 1] = -math.inf  # rows with none
    with dk.keyed(1):
        y = drop_key(z, p, share_dims=share_dims)
    assert torch.equal(y, guarded(z, contract_mask(mask_shape, p, 1)))
    assert not torch.equal(y, z)


@types
def test_half_precision_holds_what_is_dropped(dtype):
    # Adding -1e12, as the paper does, makes a float16 of -inf or, where the type is wide, finite logits.
    z = (50_000 * torch.randn(4, 3, 20, 30).clamp(-1, 1)).to(dtype)
    with dk.keyed(2):
        y = drop_key(z, 0.5)
    keep = contract_mask(z.shape, 0.5, 2)
    assert y.dtype is dtype
    assert torch.equal(y == -math.inf, ~keep)
    assert torch.equal(y[keep], z[keep])
    weights = y.softmax(-1)
    assert bool(weights.isfinite().all())
    assert bool((weights[~keep] == 0).all())


@pytest.mark.parametrize("p", [0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("keys", [1, 2, 3])
def test_no_row_loses_all_its_keys(p, keys):
    z = torch.randn(500, keys)
    y = drop_key(z, p, generator=torch.Generator().manual_seed(1))
    assert bool((y > -math.inf).any(-1).all())
    weights = y.softmax(-1)
    assert torch.allclose(weights.sum(-1), torch.ones(500))
    whole = (y == z).all(-1)
    assert bool(whole.any())
    # Left as they are: rows that keep all, (1 - p)^S, and those that would keep none, p^S; Hoeffding.
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * 500))
    assert abs(float(whole.double().mean()) - ((1 - p)**keys + p**keys)) < bound


def test_a_rate_of_one_changes_no_value():
    z = torch.randn(3, 4, 5)
    assert torch.equal(drop_key(z, 1.0), z)


@types
def test_rows_without_keys_stay_so_and_give_zeros(dtype):
    z = torch.randn(2, 6, 5).to(dtype)
    z[:, 2] = -math.inf
    z.requires_grad_()
    for p, training in ((0.5, True), (0.5, False), (1.0, True)):
        y = drop_key(z, p, training)
        assert bool((y[:, 2] == -math.inf).all())
        weights = softmax_rows(y)
        assert bool((weights[:, 2] == 0).all())
        grad, = torch.autograd.grad((weights.float()**2).sum(), z)
        assert bool(grad.isfinite().all())
        assert bool((grad[:, 2] == 0).all())
        assert bool((grad != 0).any())


def test_softmax_rows_is_softmax_elsewhere():
    z = torch.randn(7, 5, dtype=torch.float64)
    assert torch.equal(softmax_rows(z), z.softmax(-1))
    assert softmax_rows(torch.zeros(3, 0)).shape == (3, 0)
    z[3, 2] = math.nan
    assert bool(softmax_rows(z)[3].isnan().all())


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_keys_are_dropped_at_the_rate(p):
    y = drop_key(torch.zeros(1000, 40), p, generator=torch.Generator().manual_seed(1))
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * y.numel()))  # Hoeffding; p^40 is below 1e-12
    assert abs(float((y == -math.inf).double().mean()) - p) < bound


@types
def test_types_share_masks(dtype):
    with dk.keyed(4):
        wide = drop_key(torch.zeros(2, 5, 6), 0.4)
    with dk.keyed(4):
        assert torch.equal(drop_key(torch.zeros(2, 5, 6, dtype=dtype), 0.4).float(), wide)


def test_dropped_logits_have_no_gradient_whatever_their_value():
    z = torch.randn(4, 5, 50)
    z.view(-1)[::2] = math.nan
    z.view(-1)[1::4] = math.inf
    z.requires_grad_()
    with dk.keyed(3):
        y = drop_key(z, 0.5)
    keep = contract_mask(z.shape, 0.5, 3)
    assert bool((y[~keep] == -math.inf).all())
    grad, = torch.autograd.grad(y, z, torch.ones_like(y))
    assert torch.equal(grad, keep.float())


@pytest.mark.parametrize("p", [2.0**-32, 1e-12, 0.999, 1 - 2.0**-31])
@pytest.mark.parametrize("keys", [1, 2, 9])
def test_extreme_rates_stay_finite_after_the_softmax(p, keys):
    weights = drop_key(torch.randn(3, 4, keys).half(), p).softmax(-1)
    assert bool(weights.isfinite().all())


@pytest.mark.parametrize("share_dims", [(), (-2,)])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_gradients_to_second_order(share_dims):
    z = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    blocked = torch.zeros(2, 4, 3, dtype=torch.bool)
    blocked[0, 1], blocked[:, 2, :2] = True, True

    def attend(z):
        masked = z.masked_fill(blocked, -math.inf)
        return softmax_rows(drop_key(masked, 0.5, share_dims=share_dims, generator=torch.Generator().manual_seed(2)))

    assert torch.autograd.gradcheck(attend, z, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(attend, z)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4)])
def test_empty_logits(shape):
    z = torch.randn(shape, requires_grad=True)
    y = drop_key(z, 0.5)
    assert y.shape == z.shape
    assert torch.autograd.grad(y.sum(), z)[0].shape == shape


@pytest.mark.parametrize("bad", [(-1,), (2,), (0, -1)])
def test_decisions_shared_by_all_keys_are_refused(bad):
    with pytest.raises(dk.InputError, match="in the last dimension"):
        drop_key(torch.zeros(2, 3, 4), 0.5, share_dims=bad)


@pytest.mark.parametrize(("z", "arguments", "message"), [
    (torch.zeros(3, 4), {"p": 1.5}, "probability of dropping"), (torch.zeros(3, 4), {"share_dims": (3,)}, "share_dims are"),
    (torch.zeros(3, 4), {"share_dims": 1}, "share_dims is a sequence"), (torch.tensor(1.0), {}, "last dimension"),
    (torch.zeros(3, 4, dtype=torch.int64), {}, "real floating-point"),
    (torch.zeros(3, 4, dtype=torch.complex64), {}, "real floating-point"), ([0.0], {}, "real floating-point"),
])
def test_wrong_arguments_are_refused(z, arguments, message):
    with pytest.raises(dk.InputError, match=message):
        drop_key(z, **arguments)


def test_the_module_passes_its_settings_on():
    module, z = DropKey(0.5, share_dims=[-2]), torch.randn(2, 5, 6)
    with dk.keyed(1):
        y = module(z)
    with dk.keyed(1):
        assert torch.equal(y, drop_key(z, 0.5, share_dims=(-2,)))
    assert repr(module) == "DropKey(p=0.5, share_dims=(-2,))"
    assert repr(DropKey()) == "DropKey(p=0.1)"
    with pytest.raises(dk.InputError, match="integers"):
        DropKey(share_dims=("a",))
