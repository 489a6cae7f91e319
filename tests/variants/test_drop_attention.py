import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.draw import draw_keep
from dropkit.variants.drop_attention import DropAttention, drop_attention

FALSE_ALARM = 1e-6
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def softmax(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64).softmax(-1)


def contract_mask(shape, p, seed):
    with dk.keyed(seed):
        return draw_keep(shape, torch.tensor(p, dtype=torch.float64))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("share_dims", "mask_shape"), [((), (3, 2, 40, 5)), ((-2,), (3, 2, 1, 5)), ((1, 2), (3, 1, 1, 5))])
def test_rows_are_normalised_or_left_as_they_are(p, share_dims, mask_shape):
    w = softmax(3, 2, 40, 5)
    with dk.keyed(1):
        y = drop_attention(w, p, share_dims=share_dims)
    keep = contract_mask(mask_shape, p, 1).expand_as(w)
    left = keep.any(-1, keepdim=True)
    kept = torch.where(keep, w, 0)
    assert torch.allclose(y, torch.where(left, kept / kept.sum(-1, keepdim=True), w), rtol=1e-14, atol=0)
    assert torch.equal(y == 0, left & ~keep)
    assert torch.allclose(y.sum(-1), torch.ones(3, 2, 40, dtype=torch.float64), rtol=1e-14)
    assert bool((y == 0).any())


@pytest.mark.parametrize("p", [0.5, 0.999, 1.0])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nothing_is_divided_by_nothing(p, window, dtype):
    w = softmax(50, 4, 2).to(dtype)
    w[:, 1] = torch.tensor([1.0, 0.0])  # all the weight may be dropped although a key is kept
    w[:, 2] = 0  # a row that a mask has emptied
    w.requires_grad_()
    y = drop_attention(w, p, window=window)
    assert bool(y.isfinite().all())
    assert torch.equal(y[:, 1], w[:, 1])
    assert bool((y[:, 2] == 0).all())
    grad, = torch.autograd.grad((y.float()**2).sum(), w)
    assert bool(grad.isfinite().all())
    if p == 1:
        assert torch.equal(y, w)


@pytest.mark.parametrize("rest", [1e-30, 1e-19, 1e-17, 1e-8])
def test_rows_with_next_to_nothing_left(rest):
    # Left as they are below 1e-18, where a gradient in float32 could overflow; normalised above.
    with dk.keyed(5):
        heavy = ~draw_keep((1, 4), torch.tensor(0.5, dtype=torch.float64))[0]
    assert 0 < int(heavy.sum()) < 4
    w = torch.where(heavy, 1.0, rest)[None].requires_grad_()
    with dk.keyed(5):
        y = drop_attention(w, 0.5)
    grad, = torch.autograd.grad((1000 * y).sum(), w)
    assert bool(grad.isfinite().all())
    if rest < 1e-18:
        assert torch.equal(y, w)
    else:
        assert torch.allclose(y, torch.where(heavy, 0.0, 1 / (~heavy).sum())[None])


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("window", [1, 2, 5, 30])
def test_every_key_is_dropped_at_the_rate(p, window):
    rows, keys = 20_000, 20
    y = drop_attention(torch.full((rows, keys), 1 / keys), p, window=window, generator=torch.Generator().manual_seed(1))
    dropped = (y == 0).double().mean(0)
    # A row that would be empty is left as it is: all keys are reached by runs that cover them, and in a window of 5 or 30
    # that is no rare event, so the expectation of what is seen lies between p - P(empty) and p.
    with dk.keyed(0):
        begins = -math.expm1(math.log1p(-p) / window)
        seeds = draw_keep((rows, keys + window - 1), torch.tensor(begins, dtype=torch.float64))
    empty = float((~seeds.unfold(-1, window, 1).all(-1)).all(-1).double().mean())
    bound = math.sqrt(math.log(2 * keys / FALSE_ALARM) / (2 * rows))  # Hoeffding, for all keys at once
    assert bool((dropped < p + bound).all())
    assert bool((dropped > p - empty - 2 * bound).all())


def test_windows_are_runs_of_neighbours():
    w, window = torch.ones(300, 25), 4
    y = drop_attention(w, 0.3, window=window, generator=torch.Generator().manual_seed(1))
    lengths = set()
    for row in (y == 0).tolist():
        start = None
        for place, zero in enumerate([*row, False]):
            if zero and start is None:
                start = place
            elif not zero and start is not None:
                assert place - start >= window or start == 0 or place == len(row)
                lengths.add(place - start)
                start = None
    assert {1, window, window + 1} <= lengths  # runs are clipped at the ends, and they overlap


def test_windows_follow_from_the_mask_of_their_beginnings():
    w, p, window = softmax(3, 6, 10), 0.4, 3
    with dk.keyed(2):
        y = drop_attention(w, p, window=window, share_dims=(-2,))
    begins = 1 - (1 - p) ** (1 / window)
    keep = contract_mask((3, 1, 12), begins, 2)
    keep = torch.stack([keep[..., key:key + window].all(-1) for key in range(10)], -1).expand_as(w)
    left = keep.any(-1, keepdim=True)
    assert torch.equal(y == 0, left & ~keep)
    assert bool((y == 0).any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [1, 2])
def test_low_precision_is_rounded_once(dtype, window):
    w = softmax(20, 30).to(dtype)
    with dk.keyed(1):
        y = drop_attention(w, 0.4, window=window)
    with dk.keyed(1):
        wide = drop_attention(w.float(), 0.4, window=window)
    assert y.dtype is dtype
    assert torch.equal(y, wide.to(dtype))


def test_dropped_infinities_leave_no_trace():
    w = softmax(1, 10)
    with dk.keyed(1):
        keep = draw_keep((1, 10), torch.tensor(0.5, dtype=torch.float64))
    w[~keep] = math.nan
    w.requires_grad_()
    with dk.keyed(1):
        y = drop_attention(w, 0.5)
    assert bool(y.isfinite().all())
    grad, = torch.autograd.grad((y**2).sum(), w)
    assert torch.equal(grad != 0, keep)
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("settings", [{}, {"window": 2}, {"share_dims": (-2,)}, {"window": 3, "share_dims": (0, 1)}])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_gradients_to_second_order(settings):
    w = softmax(2, 4, 3).requires_grad_()

    def drop(w):
        return drop_attention(w, 0.5, **settings, generator=torch.Generator().manual_seed(2))

    assert 0 < int((drop(w) == 0).sum()) < w.numel()
    assert torch.autograd.gradcheck(drop, w, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(drop, w)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
@pytest.mark.parametrize("window", [1, 3])
def test_empty_weights(shape, window):
    w = torch.rand(shape, requires_grad=True)
    y = drop_attention(w, 0.5, window=window)
    assert y.shape == shape
    assert torch.autograd.grad(y.sum(), w)[0].shape == shape


@pytest.mark.parametrize("bad", [0, -1, 2.0, True, None, "3"])
def test_wrong_windows_are_refused(bad):
    for call in (lambda: drop_attention(torch.ones(3, 4), window=bad), lambda: DropAttention(window=bad),
                 lambda: drop_attention(torch.ones(3, 4), training=False, window=bad)):
        with pytest.raises(dk.InputError, match="window is"):
            call()


@pytest.mark.parametrize(("w", "arguments", "message"), [
    (torch.zeros(3, 4), {"p": 1.5}, "probability of dropping"), (torch.zeros(3, 4), {"share_dims": (-1,)}, "last dimension"),
    (torch.zeros(3, 4), {"share_dims": (3,)}, "share_dims are"), (torch.tensor(1.0), {}, "last dimension"),
    (torch.zeros(3, 4, dtype=torch.int64), {}, "real floating-point"),
])
def test_wrong_arguments_are_refused(w, arguments, message):
    with pytest.raises(dk.InputError, match=message):
        drop_attention(w, **arguments)


def test_the_module_passes_its_settings_on():
    module, w = DropAttention(0.5, window=2, share_dims=[-2]), softmax(2, 5, 6)
    with dk.keyed(1):
        y = module(w)
    with dk.keyed(1):
        assert torch.equal(y, drop_attention(w, 0.5, window=2, share_dims=(-2,)))
    assert repr(module) == "DropAttention(p=0.5, window=2, share_dims=(-2,))"
    assert repr(DropAttention()) == "DropAttention(p=0.1)"
