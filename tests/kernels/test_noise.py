"""The noise map: frozen values, the contract written a second time, every path bit for bit, and the laws."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dropkit.core.errors import InputError
from dropkit.core.philox import NOISE, counter_words, key_words, philox4x32
from dropkit.kernels import dispatch, noise
from dropkit.kernels.native import ops as native

GOLDEN = json.loads(Path(__file__).with_name("golden_noise.json").read_text())
FALSE_ALARM = 1e-6
SEED, STRENGTH = torch.tensor(-987654321), torch.tensor(0.3, dtype=torch.float64)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
needs_native = pytest.mark.skipif(native.KERNEL is None, reason="there is no native kernel here to compare with the reference")
laws = pytest.mark.parametrize("law", noise.LAWS)


def bits(values):
    return values.contiguous().flatten().view(INTEGERS[values.element_size()])


def same(one, other):
    return one.shape == other.shape and torch.equal(bits(one), bits(other))


def made_native(x, law, mask_shape, stream=5, global_shape=(), offsets=()):
    """By the native operator, which takes shards; `dispatch.apply_noise` does not."""
    return native.apply_noise(x, SEED, STRENGTH, noise.law_number(law), mask_shape, stream, global_shape, offsets)


# What the contract says.


@pytest.mark.parametrize("make", [noise.noise, dispatch.noise])
def test_golden_values(make):
    for row in GOLDEN:
        values = make((7,), torch.tensor(row["seed"]), row["law"], row["stream"])
        assert [f"{int(v) & 0xFFFFFFFF:08x}" for v in bits(values)] == row["bits"]


def test_uniform_is_what_the_contract_says():
    seed, stream = 0x0123456789ABCDEF, (1 << 40) + 3
    values = noise.noise((10,), torch.tensor(seed), "uniform", stream)
    for n, value in enumerate(values.tolist()):
        word = philox4x32(counter_words(n // 4, stream, NOISE), key_words(seed))[n % 4]
        assert value == ((word >> 9) + 0.5) / 2**23


def normal_pair(radial, angular):
    """Two words to two values, as docs/mask-contract.md says it, in numpy's single numbers of float32."""
    one, half = np.float32(1), np.float32(0.5)

    def polynomial(coefficients, x):
        value = np.float32(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = value * x + np.float32(coefficient)
        return value

    u = (np.float32(radial >> 1) + half) * np.float32(2**-31)
    mantissa, exponent = np.frexp(u)
    mantissa, exponent = mantissa * np.float32(2), exponent - 1
    if mantissa.view(np.int32) & 0x7FFFFF > 0x3504F3:
        mantissa, exponent = mantissa * half, exponent + 1
    f = mantissa - one
    radius = np.sqrt(np.float32(-2) * (np.float32(exponent) * np.float32(noise._LOG_TWO) + f * polynomial(noise._LOG, f)))
    x = (np.float32((angular & 0x3FFFFFFF) >> 7) + half) * np.float32(2**-23) - half
    c, s = polynomial(noise._COSINE, x * x), polynomial(noise._SINE, x * x) * x
    along, across = ((c, s), (-s, c), (-c, -s), (s, -c))[angular >> 30]
    return float(radius * along), float(radius * across)


def test_normal_is_what_the_contract_says():
    seed = 77
    values = noise.noise((4000,), torch.tensor(seed), "normal").tolist()
    for pair in range(0, 4000, 2):
        words = philox4x32(counter_words(pair // 4, 0, NOISE), key_words(seed))
        assert tuple(values[pair:pair + 2]) == normal_pair(words[pair % 4], words[pair % 4 + 1])


def test_the_contract_gives_the_coefficients():
    contract = Path(__file__).parents[2].joinpath("docs/mask-contract.md").read_text(encoding="utf-8")
    for name, known in (("ln2", [noise._LOG_TWO]), ("P", noise._LOG), ("S", noise._SINE), ("C", noise._COSINE)):
        row = next(line for line in contract.splitlines() if line.startswith(f"| {name} |"))
        assert [float.fromhex(part) for part in row.split("`")[1::2]] == list(known)


def test_no_words_make_an_infinity_or_more_than_the_bound():
    """The extremes of both words; the largest radius is the root of 64 ln 2."""
    words = [0, 1, 2, 3, 2**24, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 2, 2**32 - 1]
    radial, angular = (torch.tensor(part) for part in zip(*[(one, other) for one in words for other in words], strict=True))
    values = noise._normal(radial[None], angular[None]).view(-1, 2)
    assert bool(values.isfinite().all())
    assert float(values.abs().max()) <= math.sqrt(64 * math.log(2)) * (1 + 1e-6)
    for row, value in zip(zip(radial.tolist(), angular.tolist(), strict=True), values.tolist(), strict=True):
        assert tuple(value) == normal_pair(*row)


def test_the_polynomials_are_as_near_as_the_contract_says():
    def error(coefficients, x, known, times=1.0):
        value = noise._polynomial(coefficients, x.float() * x.float() if coefficients is not noise._LOG else x.float())
        return float((value.double() * times - known).abs().max())

    f = torch.linspace(2**-0.5 - 1, 2**0.5 - 1, 100_001).float().double()
    assert error(noise._LOG, f, f.log1p(), f) < 1e-7
    x = torch.linspace(-0.5, 0.5, 100_001).float().double()
    assert error(noise._SINE, x, (x * math.pi / 2).sin(), x) < 1e-7
    assert error(noise._COSINE, x, (x * math.pi / 2).cos()) < 1e-7


def test_normal_is_the_map_of_box_and_muller():
    """Against float64: the polynomials and roundings stay within 4e-7 times the radius' bound of 6.7."""
    seed = 77
    values = noise.noise((4000,), torch.tensor(seed), "normal").tolist()
    for pair in range(0, 4000, 2):
        words = philox4x32(counter_words(pair // 4, 0, NOISE), key_words(seed))
        radial, angular = words[pair % 4], words[pair % 4 + 1]
        radius = math.sqrt(-2 * math.log(((radial >> 1) + 0.5) / 2**31))
        angle = math.pi / 2 * ((angular >> 30) + ((angular & 0x3FFFFFFF) >> 7) / 2**23 + 0.5 / 2**23 - 0.5)
        assert abs(values[pair] - radius * math.cos(angle)) < 3e-6
        assert abs(values[pair + 1] - radius * math.sin(angle)) < 3e-6


@laws
@pytest.mark.parametrize("apply", [noise.apply_noise, dispatch.apply_noise])
def test_the_product_is_rounded_as_the_contract_says(apply, law):
    x = torch.randn(1000, dtype=torch.float64)
    e = noise.noise((1000,), SEED, law, 3).numpy()
    e = 2 * e - np.float32(1) if law == "uniform" else e
    for dtype, number in ((torch.float32, np.float32), (torch.float64, np.float64)):
        known = x.to(dtype).numpy() * (e.astype(number) * number(0.3) + number(1))
        assert same(apply(x.to(dtype), SEED, STRENGTH, law, (1000,), 3), torch.from_numpy(known))


def test_half_precision_gets_the_same_noise():
    x = torch.full((1000,), 2.0)
    wide = dispatch.apply_noise(x, SEED, STRENGTH, "normal", (1000,))
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(dispatch.apply_noise(x.to(dtype), SEED, STRENGTH, "normal", (1000,)), wide.to(dtype))


def test_complex_data_takes_real_factors():
    x = torch.randn(50, dtype=torch.complex64)
    factors = dispatch.apply_noise(torch.ones(50), SEED, STRENGTH, "normal", (50,))
    assert torch.equal(dispatch.apply_noise(x, SEED, STRENGTH, "normal", (50,)), x * factors)


# The native kernel is the reference.


@needs_native
@laws
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 255, 257, 1021, 1024, 1025, 16383, 16384, 16385, 100003])
def test_native_is_the_reference(law, size):
    for seed, stream in ((0, 0), (-1, (1 << 60) - 1)):
        ours = dispatch.noise((size,), torch.tensor(seed), law, stream)
        assert same(ours, noise.noise((size,), torch.tensor(seed), law, stream))
    for dtype in DTYPES:
        x = torch.randn(size).to(dtype)
        assert same(made_native(x, law, (size,)), noise.apply_noise(x, SEED, STRENGTH, law, (size,), 5))


@needs_native
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_shape_stride_shared_dimension_type_and_shard(data):
    shape = data.draw(st.lists(st.integers(0, 9), max_size=5))
    order = data.draw(st.permutations(range(len(shape))))
    steps = [data.draw(st.integers(1, 2)) for _ in shape]
    dtype, law = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from(noise.LAWS))
    base = torch.randn([size * step for size, step in zip(shape, steps, strict=True)]).to(dtype)
    x = base[tuple(slice(None, None, step) for step in steps)].permute(order)
    mask = [data.draw(st.sampled_from([1, size])) if size else size for size in x.shape]
    begins = [data.draw(st.integers(0, 3)) for _ in mask]
    whole = [begin + size + data.draw(st.integers(0, 2)) for begin, size in zip(begins, mask, strict=True)]
    for shard in ({}, {"global_shape": whole, "offsets": begins}):
        ours = made_native(x, law, mask, **shard)
        assert same(ours, noise.apply_noise(x, SEED, STRENGTH, law, mask, 5, **shard))
        assert ours.stride() == torch.empty_like(x).stride()


@needs_native
@laws
@pytest.mark.parametrize("mask_shape", [(4, 6, 35, 70), (4, 6, 1, 1), (1, 6, 1, 1), (4, 1, 35, 70), (4, 1, 1, 70), (1,) * 4])
def test_memory_layout_does_not_matter(mask_shape, law):
    x = torch.randn(4, 6, 35, 70)
    plain = noise.apply_noise(x, SEED, STRENGTH, law, mask_shape, 5)
    wide = torch.zeros(8, 6, 35, 140)
    wide[::2, :, :, ::2] = x
    turned = x.transpose(0, 3).contiguous().transpose(0, 3)
    for other in (x, x.contiguous(memory_format=torch.channels_last), turned, wide[::2, :, :, ::2]):
        assert same(made_native(other, law, mask_shape), plain)
        assert same(noise.apply_noise(other, SEED, STRENGTH, law, mask_shape, 5), plain)
        assert made_native(other, law, mask_shape).stride() == torch.empty_like(other).stride()
        assert noise.apply_noise(other, SEED, STRENGTH, law, mask_shape, 5).stride() == torch.empty_like(other).stride()
    expanded = torch.ones(1, 6, 1, 70).expand(4, 6, 35, 70)
    assert same(made_native(expanded, law, mask_shape), made_native(expanded.contiguous(), law, mask_shape))


@laws
@pytest.mark.parametrize("make", [noise.noise, pytest.param(
    lambda shape, seed, law, stream, global_shape, offsets:
        native.noise(seed, shape, stream, noise.law_number(law), global_shape, offsets), marks=needs_native, id="native")])
def test_shards_are_slices_of_the_whole(make, law):
    whole = dispatch.noise((7, 12, 9), SEED, law, 3)
    for begins, ends in (((0, 0, 0), (7, 12, 9)), ((2, 5, 1), (7, 6, 8)), ((6, 0, 8), (7, 12, 9)), ((3, 3, 3), (3, 5, 7))):
        part = make([end - begin for begin, end in zip(begins, ends, strict=True)], SEED, law, 3,
                    global_shape=(7, 12, 9), offsets=begins)
        assert same(part, whole[tuple(slice(*ends) for ends in zip(begins, ends, strict=True))])


@needs_native
@laws
def test_indices_beyond_32_bits(law):
    """Rows around element 2^32 and around 2^34, where the block's index passes 2^32, and far beyond."""
    for row in (2**32 // 101, 2**34 // 101, 2**34 // 101 - 5, 2**39 + 1):
        shard = {"global_shape": (2**40, 101), "offsets": (row, 0)}
        known = noise.noise((11, 101), SEED, law, 5, **shard)
        assert same(native.noise(SEED, (11, 101), 5, noise.law_number(law), *shard.values()), known)
        block, place = divmod(row * 101, 4)
        words = philox4x32(counter_words(block, 5, NOISE), key_words(int(SEED)))
        pair = place - place % 2
        value = ((words[place] >> 9) + 0.5) / 2**23 if law == "uniform" else normal_pair(*words[pair:pair + 2])[place % 2]
        assert float(known[0, 0]) == value


def digest_of_paths():
    """A hash over laws, types, sizes, layouts, shared dimensions and thread counts; printed by each path's own process."""
    test_golden_values(dispatch.noise)
    found = hashlib.sha256()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(0)
        for law in noise.LAWS:
            for size in (0, 1, 3, 63, 64, 65, 257, 1021, 4097, 3 * 2**17 + 5):
                found.update(dispatch.noise((size,), SEED, law, 9).numpy().tobytes())
            for dtype in DTYPES:
                for shape in ((1021,), (2**17 + 1,), (3, 17, 31), (40, 5, 1, 300)):
                    x = torch.randn(shape, generator=generator).to(dtype)
                    for shared in (shape, (1, *shape[1:]), (*shape[:-1], 1)):
                        for y in (x, x.transpose(0, -1).contiguous().transpose(0, -1)):
                            y = dispatch.apply_noise(y, SEED, STRENGTH, law, shared, 9)
                            found.update(bits(y).numpy().tobytes())
        found.update(b"thread count done")
    return found.hexdigest()


@pytest.mark.slow
@needs_native
def test_every_path_gives_the_same_bits():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_noise; print(test_noise.digest_of_paths())"
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


def test_noise_does_not_depend_on_threads_or_shape():
    x, before = torch.randn(300, 1000), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, product = dispatch.noise((300, 1000), SEED, "normal"), dispatch.apply_noise(x, SEED, STRENGTH, "normal", (300, 1))
        torch.set_num_threads(2)
        assert same(dispatch.noise((300_000,), SEED, "normal"), one.view(-1))
        assert same(dispatch.apply_noise(x, SEED, STRENGTH, "normal", (300, 1)), product)
    finally:
        torch.set_num_threads(before)


# The laws. A sound generator fails one of these checks less than once in 10^6; the seeds are fixed.


@pytest.mark.parametrize(("law", "cdf"), [("uniform", stats.uniform.cdf), ("normal", stats.norm.cdf)])
def test_laws(law, cdf):
    """Kolmogorov and Smirnov's test of a million values, and of even and odd elements alone."""
    values = dispatch.noise((1_000_000,), torch.tensor(3), law)
    for part in (values, values[::2], values[1::2]):
        assert stats.kstest(part.numpy(), cdf).pvalue > FALSE_ALARM / 6
    assert bool(values.isfinite().all())


@pytest.mark.parametrize(("law", "known"), [("uniform", stats.uniform(-0.5, 1)), ("normal", stats.norm())])
def test_moments(law, known):
    """The first four, each against its standard error by the law's own moment of twice the order."""
    values = dispatch.noise((1_000_000,), torch.tensor(13), law).double() - (0.5 if law == "uniform" else 0.0)
    bound = stats.norm.isf(FALSE_ALARM / 8)
    for order in (1, 2, 3, 4):
        error = math.sqrt((known.moment(2 * order) - known.moment(order) ** 2) / len(values))
        assert abs(float((values**order).mean()) - known.moment(order)) < bound * error


def test_neighbours_are_uncorrelated():
    values = dispatch.noise((1_000_000,), torch.tensor(4), "normal").double()
    bound = stats.norm.isf(FALSE_ALARM / 28) / math.sqrt(len(values) - 256)
    for lag in (1, 2, 3, 4, 5, 64, 256):
        assert abs(float((values[lag:] * values[:-lag]).mean())) < bound
        squares = (values[lag:] ** 2 - 1) * (values[:-lag] ** 2 - 1) / 2
        assert abs(float(squares.mean())) < bound


def independent(rows, columns, classes):
    """The p-value of a chi-square test of equal cells for two rows of class numbers."""
    cells = np.bincount(rows * classes[1] + columns, minlength=classes[0] * classes[1])
    expected = len(rows) / len(cells)
    return float(stats.chi2.sf(((cells - expected) ** 2 / expected).sum(), len(cells) - 1))


@pytest.mark.parametrize(("law", "cdf"), [("uniform", stats.uniform.cdf), ("normal", stats.norm.cdf)])
def test_even_and_odd_elements_are_independent(law, cdf):
    """Both values of a pair come from one radius and one angle; their 32 x 32 equally likely cells fill evenly."""
    values = np.minimum((cdf(dispatch.noise((1 << 20,), torch.tensor(14), law).double().numpy()) * 32).astype(int), 31)
    assert independent(values[::2], values[1::2], (32, 32)) > FALSE_ALARM / 4
    assert independent(values[1:-1:2], values[2::2], (32, 32)) > FALSE_ALARM / 4


def test_tails_are_normal():
    values = dispatch.noise((1 << 22,), torch.tensor(5), "normal").double().abs()
    for sigmas in (3, 4, 5):
        count = int((values > sigmas).sum())
        low, high = stats.binom.interval(1 - FALSE_ALARM / 3, len(values), 2 * stats.norm.sf(sigmas))
        assert low <= count <= high


def test_uniform_stays_inside_and_is_symmetric():
    values = dispatch.noise((1 << 20,), torch.tensor(6), "uniform")
    assert float(values.min()) > 0
    assert float(values.max()) < 1
    assert torch.equal((1 - values) * 2**23 % 1, torch.full_like(values, 0.5))  # on the same grid, end points left out


def test_noise_and_masks_of_one_key_are_independent():
    """Element against element, and against the elements that have the noise's block number as theirs."""
    seed, n = torch.tensor(9), 1 << 18
    keep = dispatch.keep_mask((4 * n,), seed, torch.tensor(0.5, dtype=torch.float64)).numpy().astype(int)
    values = (dispatch.noise((n,), seed, "uniform").numpy() * 16).astype(int)
    assert independent(keep[:n], values, (2, 16)) > FALSE_ALARM / 2
    assert independent(keep.reshape(-1, 16)[:, :4].ravel(), values, (2, 16)) > FALSE_ALARM / 2


def test_streams_and_seeds_make_noise_of_their_own():
    n = 1 << 18
    seeds = [dispatch.noise((n,), torch.tensor(seed), "normal").double() for seed in (1, 2, 2**32 + 1)]
    streams = [dispatch.noise((n,), torch.tensor(1), "normal", stream).double() for stream in (1, 2, 2**32)]
    found = torch.corrcoef(torch.stack(seeds + streams)).fill_diagonal_(0)
    assert float(found.abs().max()) < stats.norm.isf(FALSE_ALARM / 30) / math.sqrt(n)


# What is refused.


def test_unknown_laws_are_refused():
    with pytest.raises(InputError, match="uniform"):
        dispatch.noise((3,), torch.tensor(0), "cauchy")
    with pytest.raises(InputError, match="uniform"):
        dispatch.apply_noise(torch.ones(3), SEED, STRENGTH, "cauchy", (3,))


def test_a_strength_that_asks_for_a_gradient_is_refused():
    with pytest.raises(InputError, match="derivative in strength"):
        dispatch.apply_noise(torch.ones(3), SEED, STRENGTH.clone().requires_grad_(), "normal", (3,))


@needs_native
@pytest.mark.parametrize(("change", "rule"), [
    ({"law": 2}, "law of noise is 0"), ({"stream": -1}, "stream lies in"), ({"seed": torch.tensor(1.0)}, "seed is an int64"),
    ({"strength": torch.tensor(0.1)}, "strength is a float64"), ({"mask_shape": [3]}, "as many dimensions"),
    ({"mask_shape": [3, 2]}, "x's size or 1"), ({"global_shape": [3, 5], "offsets": [1, 0]}, "stays within global_shape")])
def test_the_operator_says_what_is_wrong(change, rule):
    law = {"seed": SEED, "strength": STRENGTH, "law": 1, "mask_shape": [3, 5], "stream": 0, "global_shape": [], "offsets": []}
    with pytest.raises(RuntimeError, match=rule):
        torch.ops.dropkit.apply_noise.default(torch.ones(3, 5), *(law | change).values())
