import math
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.core.errors import InputError
from dropkit.kernels import dispatch, reference
from dropkit.kernels.reference import apply_mask, keep_mask, philox4x32, scale

sys.path.insert(0, str(Path(__file__).parent))
import oracle

RATES = [0.0, 2**-34, 1e-6, 0.1, 0.25, 0.5, 0.9, 1 - 1e-6, 1 - 2**-34, 1.0]


def rate_tensor(p):
    return torch.tensor(p, dtype=torch.float64)


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), [  # Random123, tests/kat_vectors, "philox4x32 10"
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
])
def test_known_answers(counter, key, answer):
    c = words(counter)
    even, odd = philox4x32(torch.tensor([[c[0]] * 3, [c[2]] * 3]), torch.tensor([[c[1]] * 3, [c[3]] * 3]), words(key))
    assert [int(word[2]) for word in (even[0], odd[0], even[1], odd[1])] == words(answer)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (-1, 2**60 - 1), (0x123456789ABCDEF, 1087406749995117274)])
def test_masks_match_the_contract(p, seed, stream):
    shape = (7, 1, 331)  # primes: the last block is incomplete, and ties (1 element in 256) occur
    mine = keep_mask(shape, torch.tensor(seed), rate_tensor(p), stream)
    assert torch.equal(mine, oracle.keep_mask(shape, seed, p, stream))


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 255, 256, 257])
def test_every_length_is_a_prefix_of_the_next(n):
    whole = keep_mask((300,), torch.tensor(5), rate_tensor(0.3))
    assert torch.equal(keep_mask((n,), torch.tensor(5), rate_tensor(0.3)), whole[:n])


@settings(max_examples=40, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.floats(0, 1), st.integers(0, 2**60 - 1), st.lists(st.integers(0, 6), max_size=4))
def test_any_mask_matches_the_contract(seed, p, stream, shape):
    assert torch.equal(keep_mask(shape, torch.tensor(seed), rate_tensor(p), stream),
                       oracle.keep_mask(tuple(shape), seed, p, stream))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_shards_are_slices_of_the_whole(data):
    whole = data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    begins = [data.draw(st.integers(0, size - 1)) for size in whole]
    shape = [data.draw(st.integers(0, size - begin)) for size, begin in zip(whole, begins, strict=True)]
    everything = keep_mask(whole, torch.tensor(9), rate_tensor(0.4), 3)
    piece = keep_mask(shape, torch.tensor(9), rate_tensor(0.4), 3, global_shape=whole, offsets=begins)
    index = tuple(slice(begin, begin + size) for begin, size in zip(begins, shape, strict=True))
    assert torch.equal(piece, everything[index])


def test_indices_beyond_32_bits():
    whole, begins, shape = (2**20, 2**20), (2**18 + 5, 2**19 - 3), (3, 40)
    piece = keep_mask(shape, torch.tensor(1), rate_tensor(0.1), 2, global_shape=whole, offsets=begins)
    assert torch.equal(piece, oracle.keep_mask(shape, 1, 0.1, 2, whole, begins))


def test_masks_longer_than_a_chunk():
    n = 16 * reference._CHUNK + 100
    mask = keep_mask((n,), torch.tensor(1), rate_tensor(0.1))
    last = keep_mask((200,), torch.tensor(1), rate_tensor(0.1), global_shape=(n,), offsets=(n - 200,))
    assert torch.equal(mask[-200:], last)
    assert torch.equal(mask[-200:], oracle.keep_mask((200,), 1, 0.1, 0, (n,), (n - 200,)))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.7531])
def test_realised_rate(p):
    # Hoeffding: P(|mean - p| >= t) <= 2 exp(-2 n t^2), which is 10^-6 at this t. Four fixed seeds: 4 in 10^6 altogether.
    n = 2**22
    bound = math.sqrt(math.log(2e6) / (2 * n))
    for seed in range(4):
        dropped = 1 - keep_mask((n,), torch.tensor(seed), rate_tensor(p)).double().mean()
        assert abs(dropped - p) < bound


def test_tie_breaking_reaches_rates_a_byte_cannot_tell_apart():
    # 2^22 draws at p = 1/512: half of the byte's ties. Bernstein with variance p: 10^-6 at t = 4 sqrt(2 p ln(2e6) / n).
    n, p = 2**22, 1 / 512
    dropped = 1 - keep_mask((n,), torch.tensor(0), rate_tensor(p)).double().mean()
    assert abs(dropped - p) < 4 * math.sqrt(2 * p * math.log(2e6) / n)


def test_masks_grow_with_the_rate():
    masks = [keep_mask((5000,), torch.tensor(2), rate_tensor(p)) for p in (0.1, 0.1001, 0.3, 0.3004, 0.9)]
    for lower, higher in pairwise(masks):
        assert bool((lower | ~higher).all())


@pytest.mark.parametrize("other", [{"seed": 2}, {"stream": 1}, {"seed": 1 + 2**32}])
def test_seeds_and_streams_are_independent(other):
    # Agreement of two independent fair masks is Binomial(n, 1/2); Hoeffding at 10^-6.
    n = 2**18
    key = {"seed": 1, "stream": 0} | other
    a = keep_mask((n,), torch.tensor(1), rate_tensor(0.5), 0)
    b = keep_mask((n,), torch.tensor(key["seed"]), rate_tensor(0.5), key["stream"])
    assert abs((a == b).double().mean() - 0.5) < math.sqrt(math.log(2e6) / (2 * n))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1 / 3, 1 - 1e-6])
def test_scale_is_exact_for_the_threshold(p):
    limit = math.floor(p * 2**32 + 0.5)
    assert float(scale(rate_tensor(p))) == 2**32 / (2**32 - limit)


def test_nothing_kept_scales_by_zero():
    assert float(scale(rate_tensor(1.0))) == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_are_rounded_once(dtype):
    x = torch.randn(999, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    y = apply_mask(x, torch.tensor(1), rate_tensor(1 / 3), x.shape, 0, True)
    keep = keep_mask(x.shape, torch.tensor(1), rate_tensor(1 / 3))
    compute = torch.float64 if dtype is torch.float64 else torch.float32
    expected = (x.to(compute) * scale(rate_tensor(1 / 3)).to(compute)).to(dtype)
    assert torch.equal(y[keep], expected[keep])
    assert bool((y[~keep] == 0).all())
    assert not bool(y[~keep].signbit().any())


@pytest.mark.parametrize("p", [0.5, 1.0])
def test_dropped_infinities_are_zero_with_zero_gradients(p):
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0] * 50, requires_grad=True)
    y = apply_mask(x, torch.tensor(1), rate_tensor(p), x.shape, 0, True)
    keep = keep_mask(x.shape, torch.tensor(1), rate_tensor(p))
    y.sum().backward()
    assert bool((y[~keep] == 0).all())
    assert bool((x.grad[~keep] == 0).all())
    assert bool((x.grad[keep] == scale(rate_tensor(p)).float()).all())


@pytest.mark.parametrize("x", [
    torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(6, 5).t(), torch.randn(8, 9)[::2, 1::3],
    torch.randn(1, 6).expand(4, 6), torch.randn(3, 2, 4, 2, 3).permute(4, 1, 0, 3, 2),
], ids=["channels_last", "transposed", "sliced", "expanded", "permuted"])
def test_masks_ignore_strides_and_layouts_survive(x):
    for shared in range(2 ** x.dim()):
        shape = [1 if shared >> dim & 1 else size for dim, size in enumerate(x.shape)]
        y = apply_mask(x, torch.tensor(1), rate_tensor(0.5), shape, 0, True)
        assert torch.equal(y, apply_mask(x.contiguous(), torch.tensor(1), rate_tensor(0.5), shape, 0, True))
        assert y.stride() == torch.empty_like(x).stride()


def test_broadcast_masks():
    x = torch.ones(4, 6, 5)
    y = apply_mask(x, torch.tensor(1), rate_tensor(0.5), (4, 1, 5), 0, True)
    mask = oracle.keep_mask((4, 1, 5), 1, 0.5, 0)
    assert torch.equal(y, (2.0 * mask).expand(4, 6, 5))


def test_what_is_saved_for_backward_is_one_mask_of_the_mask_shape():
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        x = torch.ones(8, 64, 64, requires_grad=True)
        apply_mask(x, torch.tensor(1), rate_tensor(0.5), (8, 64, 1), 0, True)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 8 * 64 + 8


# torch's own forward-mode rules are compiled with torch.jit.script, which warns.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_forward_mode_and_vmap():
    x, t = torch.randn(50), torch.randn(50)
    out, tangent = torch.func.jvp(lambda v: apply_mask(v, torch.tensor(1), rate_tensor(0.5), (50,), 0, True), (x,), (t,))
    assert torch.equal(tangent, apply_mask(t, torch.tensor(1), rate_tensor(0.5), (50,), 0, True))
    seeds = torch.tensor([1, 2, 3])
    batched = torch.vmap(lambda seed: apply_mask(x, seed, rate_tensor(0.5), (50,), 0, True))(seeds)
    assert torch.equal(batched[0], out)
    assert torch.equal(batched, torch.stack([apply_mask(x, s, rate_tensor(0.5), (50,), 0, True) for s in seeds]))
    rates = torch.tensor([0.1, 0.6], dtype=torch.float64)
    batched = torch.vmap(lambda x, p: apply_mask(x, torch.tensor(1), p, (50,), 0, True), in_dims=(None, 0))(x, rates)
    assert torch.equal(batched[1], apply_mask(x, torch.tensor(1), rates[1], (50,), 0, True))


def test_meta_and_fake_tensors():
    x = torch.empty(1000, 10, device="meta")
    y = apply_mask(x, torch.tensor(1), rate_tensor(0.3), x.shape, 0, True)
    assert (y.shape, y.device.type) == (x.shape, "meta")


def test_the_operators_are_registered_correctly():
    arguments = (torch.tensor(1), rate_tensor(0.3), [4, 5], 7, torch.device("cpu"), [], [])
    torch.library.opcheck(torch.ops.dropkit.reference_keep_mask.default, arguments)
    assert torch.ops.dropkit.draw_seed(torch.tensor(0)).dtype is torch.int64


@pytest.mark.parametrize("shard", [
    {"global_shape": (4,)}, {"offsets": (1,)}, {"global_shape": (4, 6), "offsets": (1, 3)}, {"offsets": (-1, 0)},
])
def test_shards_outside_the_whole_are_refused(shard):
    with pytest.raises(InputError, match="global_shape"):
        dispatch.apply_mask(torch.ones(4, 4), torch.tensor(1), rate_tensor(0.5), (4, 4), 0, True, **shard)


def test_dispatch_passes_shards_on():
    x = torch.ones(6, 8)
    whole = dispatch.apply_mask(x, torch.tensor(1), rate_tensor(0.5), (6, 8), 0, True)
    piece = dispatch.apply_mask(x[2:, 3:], torch.tensor(1), rate_tensor(0.5), (4, 5), 0, True,
                                global_shape=(6, 8), offsets=(2, 3))
    assert torch.equal(piece, whole[2:, 3:])
    assert torch.equal(x[:2], torch.ones(2, 8))


def test_backends_name_every_device_here():
    rows = dispatch.backends()
    assert rows[0].device == "cpu"
    assert len({row.device for row in rows}) == len(rows) == 1 + torch.accelerator.is_available()
    assert all(row.backend and row.why for row in rows)
