"""The native kernel is the contract: the same bits on every path, thread count, memory layout and shard."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.core.masks import ALPHA, INVERTED, SELU_LOWEST, UNSCALED
from dropkit.kernels import dispatch, reference
from dropkit.kernels.native import ops

pytestmark = pytest.mark.skipif(ops.KERNEL is None, reason="without a C++ compiler there is only the reference kernel")

SEED, RATE = torch.tensor(-987654321), torch.tensor(0.3, dtype=torch.float64)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
RATES = [0.0, 1e-9, 1e-6, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1 - 1e-6, 1.0]
SIZES = [0, 1, 15, 16, 17, 63, 64, 65, 127, 257, 1021, 4096, 4097, 8191, 12289]


def rate_of(p):
    return torch.tensor(p, dtype=torch.float64)


def both(x, mask_shape, p, stream=5, scaling=INVERTED, **shard):
    law = (SEED, rate_of(p), mask_shape, stream, scaling)
    return dispatch.apply_mask(x, *law, **shard), reference.apply_mask(x, *law, **shard)


def digest_of_paths():
    """A hash over results of types, sizes, rates, layouts, shards and thread counts; printed by each path's own process."""
    found = hashlib.sha256()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(0)
        for dtype in DTYPES:
            for size in (*SIZES, 3 * 2**17 + 5):
                x = torch.randn(size, generator=generator).to(dtype)
                for p in RATES:
                    y = dispatch.apply_mask(x, SEED, rate_of(p), (size,), 7, True)
                    found.update(y.view(torch.uint8).numpy().tobytes())
            x = torch.randn(3, 17, 31, generator=generator).to(dtype)
            far = {"global_shape": (2**31, 17, 31), "offsets": (2**31 - 5, 0, 0)}
            for shape, shard in (((3, 17, 31), {}), ((3, 1, 31), {}), ((1, 17, 1), {}), ((3, 17, 31), far)):
                y = dispatch.apply_mask(x, SEED, RATE, shape, 7, True, **shard)
                found.update(y.view(torch.uint8).numpy().tobytes())
            y = dispatch.add_masked(x, x.flip(0), SEED, RATE, x.shape, 7, True)
            found.update(y.contiguous().view(torch.uint8).numpy().tobytes())
        found.update(b"thread count done")
    return found.hexdigest()


@pytest.mark.slow
def test_every_path_gives_the_same_bits():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_native; print(test_native.digest_of_paths())"
    here = os.path.dirname(__file__)
    found, missing = {}, []
    for path in ("reference", "scalar", "avx2", "avx512", "neon"):
        done = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True,
                              env={**os.environ, "DROPKIT_KERNEL": path}, check=False)
        if done.returncode == 0:
            found[path] = done.stdout.strip()
        else:
            assert "names a path that this machine can take" in done.stderr, done.stderr
            missing.append(path)
    assert {"reference", "scalar"} <= set(found), missing
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", RATES)
def test_it_is_the_reference_at_every_size(dtype, p):
    for size in SIZES:
        x = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
        for scaling in (UNSCALED, INVERTED, ALPHA):
            native, known = both(x, (size,), p, scaling=scaling)
            assert torch.equal(native, known)


@pytest.mark.parametrize("p", [2.0**-40, 2.0**-32, 0.0625, 0.5, 1 - 2.0**-32, 1 - 2.0**-40])
def test_alpha_scaling_is_the_papers_factor(p):
    ones = torch.ones(4096, dtype=torch.float64)
    kept = reference.keep_mask(ones.shape, SEED, rate_of(p), 5)
    for y in both(ones, ones.shape, p, scaling=ALPHA):
        realised = round(p * 2**32) / 2**32
        factor = ((1 - realised) * (1 + realised * SELU_LOWEST**2)) ** -0.5 if realised < 1 else 0.0
        torch.testing.assert_close(y[kept], torch.full_like(y[kept], factor), rtol=1e-15, atol=0)
        assert bool((y[~kept] == 0).all())


def test_an_unknown_scaling_is_refused():
    with pytest.raises(RuntimeError, match="scaling is 0"):
        ops.apply(torch.ones(2), SEED, RATE, (2,), 0, 3)


@settings(max_examples=150)
@given(data=st.data())
def test_any_shape_stride_shared_dimension_type_and_rate(data):
    shape = data.draw(st.lists(st.integers(0, 9), max_size=5))
    order = data.draw(st.permutations(range(len(shape))))
    steps = [data.draw(st.integers(1, 2)) for _ in shape]
    dtype, p = data.draw(st.sampled_from(DTYPES)), data.draw(st.floats(0, 1))
    mask = [data.draw(st.sampled_from([1, size])) if size else size for size in shape]
    base = torch.randn([size * step for size, step in zip(shape, steps, strict=True)]).to(dtype)
    x = base[tuple(slice(None, None, step) for step in steps)].permute(order)
    native, known = both(x, [mask[place] for place in order], p)
    assert torch.equal(native, known)
    assert native.stride() == torch.empty_like(x).stride()


@pytest.mark.parametrize("mask_shape", [(4, 6, 5, 7), (4, 6, 1, 1), (1, 6, 1, 1), (4, 1, 5, 7), (1, 1, 1, 1)])
def test_memory_layout_does_not_matter(mask_shape):
    x = torch.randn(4, 6, 5, 7)
    plain = dispatch.apply_mask(x, SEED, RATE, mask_shape, 0, True)
    wide = torch.zeros(8, 6, 5, 14)
    wide[::2, :, :, ::2] = x
    turned = x.transpose(0, 3).contiguous().transpose(0, 3)
    for other in (x.contiguous(memory_format=torch.channels_last), turned, wide[::2, :, :, ::2]):
        assert torch.equal(dispatch.apply_mask(other, SEED, RATE, mask_shape, 0, True), plain)
    same = torch.ones(1, 6, 1, 7).expand(4, 6, 5, 7)
    assert torch.equal(dispatch.apply_mask(same, SEED, RATE, mask_shape, 0, True),
                       dispatch.apply_mask(same.contiguous(), SEED, RATE, mask_shape, 0, True))


@settings(max_examples=60)
@given(data=st.data())
def test_shards_are_slices_of_the_whole(data):
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    begins = [data.draw(st.integers(0, size - 1)) for size in shape]
    ends = [data.draw(st.integers(begin + 1, size)) for begin, size in zip(begins, shape, strict=True)]
    x = torch.randn(shape)
    place = tuple(slice(begin, end) for begin, end in zip(begins, ends, strict=True))
    whole = dispatch.apply_mask(x, SEED, RATE, shape, 0, True)
    part = dispatch.apply_mask(x[place], SEED, RATE, x[place].shape, 0, True, global_shape=shape, offsets=begins)
    assert torch.equal(part, whole[place])


def test_indices_beyond_32_bits():
    x, whole = torch.ones(1, 100), (2**40, 100)
    for row in (2**26, 2**32 // 100, 2**39 + 1):
        native, known = both(x, (1, 100), 0.5, global_shape=whole, offsets=(row, 0))
        assert torch.equal(native, known)


def test_dropped_nan_and_infinity_become_zero_and_kept_ones_stay():
    for value in (float("nan"), float("inf"), -float("inf")):
        for dtype in DTYPES:
            x = torch.full((4097,), value, dtype=dtype)
            y = dispatch.apply_mask(x, SEED, RATE, x.shape, 0, True)
            keep = reference.keep_mask(x.shape, SEED, RATE)
            assert bool((y[~keep] == 0).all())
            assert bool((~y[keep].isfinite()).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mask_shape", [(33, 70), (33, 1), (1, 70)])
def test_residual_add_rounds_once(dtype, mask_shape):
    x, residual = torch.randn(33, 70).to(dtype), torch.randn(33, 70).to(dtype)
    found = dispatch.add_masked(residual, x, SEED, RATE, mask_shape, 3, True)
    wide = torch.promote_types(dtype, torch.float32)
    known = residual.to(wide) + reference.apply_mask(x.to(wide), SEED, RATE, mask_shape, 3, True)
    assert torch.equal(found, known.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 1000), (3, 5, 5000), (2, 5, 7, 7), (1, 1, 40000), (4, 3, 1)])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_residual_may_be_one_number_a_row(dtype, shape, p):
    x, mask_shape = torch.randn(shape).to(dtype), (*shape[:2], *(1,) * (len(shape) - 2))
    residual = torch.randn(mask_shape).to(dtype)
    found = dispatch.add_masked(residual.expand(shape), x, SEED, rate_of(p), mask_shape, 3, INVERTED)
    whole = residual.expand(shape).contiguous()
    assert torch.equal(found, dispatch.add_masked(whole, x, SEED, rate_of(p), mask_shape, 3, INVERTED))


def test_in_place_writes_into_the_input_and_equals_the_copy():
    for x in (torch.randn(5000), torch.randn(40, 50).t(), torch.randn(40, 50)[:, ::2]):
        known = dispatch.apply_mask(x, SEED, RATE, x.shape, 0, True)
        version = x._version
        y = dispatch.apply_mask_inplace(x, SEED, RATE, x.shape, 0, True)
        assert y is x
        assert torch.equal(x, known)
        assert x._version > version


def test_in_place_in_a_graph_gives_the_gradient_of_the_copy():
    leaf = torch.randn(100, requires_grad=True)
    dispatch.apply_mask_inplace(leaf * 2, SEED, RATE, (100,), 0, True).sum().backward()
    keep = reference.keep_mask((100,), SEED, RATE)
    assert torch.equal(leaf.grad != 0, keep)


@pytest.mark.parametrize("wanted", ["sse9", "neon", "avx512", "scalar", "reference"])
def test_the_environment_variable_forces_a_path_or_says_why_not(wanted):
    done = subprocess.run([sys.executable, "-m", "dropkit", "env"], capture_output=True, text=True,
                          env={**os.environ, "DROPKIT_KERNEL": wanted}, check=False)
    if done.returncode == 0:
        assert f"{wanted}, asked for by DROPKIT_KERNEL" in done.stdout or "reference (asked for by" in done.stdout
    else:
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert f"got '{wanted}'" in done.stderr
    assert wanted not in ("sse9", "scalar", "reference") or (done.returncode == 2) == (wanted == "sse9")
