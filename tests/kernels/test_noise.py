"""The noise map: frozen values, every path against the reference bit for bit, and the laws."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

from dropkit.core.errors import InputError
from dropkit.core.philox import NOISE, counter_words, key_words, philox4x32
from dropkit.kernels import dispatch, noise
from dropkit.kernels.native import ops as native

GOLDEN = json.loads(Path(__file__).with_name("golden_noise.json").read_text())
FALSE_ALARM = 1e-6
needs_native = pytest.mark.skipif(native.KERNEL is None, reason="there is no native kernel here to compare with the reference")


def bits(values):
    return values.view(torch.int32)


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


@needs_native
@pytest.mark.parametrize("law", noise.LAWS)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 255, 256, 257, 1021, 16383, 16384, 16385, 100003])
def test_native_is_the_reference(law, size):
    for seed, stream in ((0, 0), (-1, (1 << 60) - 1)):
        ours = dispatch.noise((size,), torch.tensor(seed), law, stream)
        assert torch.equal(bits(ours), bits(noise.noise((size,), torch.tensor(seed), law, stream)))


@needs_native
@pytest.mark.parametrize("kernel", ["reference", "scalar", "avx2", "avx512", "neon"])
def test_every_path_makes_the_same(kernel):
    code = ("import torch\nfrom dropkit.kernels import dispatch\nv = [dispatch.noise((40001,), torch.tensor(5), law, 9)"
            " for law in ('uniform', 'normal')]\nprint(hash(tuple(torch.cat(v).view(torch.int32).tolist())))")
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "DROPKIT_KERNEL": name}) for name in ("reference", kernel)]
    if run[1].returncode and ("does not support" in run[1].stderr or "InputError" in run[1].stderr):
        pytest.skip(f"this processor cannot run {kernel}")
    assert run[0].returncode == 0
    assert run[1].stdout == run[0].stdout


@pytest.mark.parametrize(("law", "cdf"), [("uniform", stats.uniform.cdf), ("normal", stats.norm.cdf)])
def test_laws(law, cdf):
    """Kolmogorov and Smirnov's test of a million values, and of even and odd elements alone."""
    values = dispatch.noise((1_000_000,), torch.tensor(3), law)
    for part in (values, values[::2], values[1::2]):
        assert stats.kstest(part.numpy(), cdf).pvalue > FALSE_ALARM
    assert bool(values.isfinite().all())


def test_neighbours_are_uncorrelated():
    values = dispatch.noise((1_000_000,), torch.tensor(4), "normal").double()
    bound = stats.norm.isf(FALSE_ALARM / 2) / math.sqrt(len(values))
    for lag in (1, 2, 3, 4, 5, 64, 256):
        assert abs(float((values[lag:] * values[:-lag]).mean())) < bound * 1.01
        squares = (values[lag:] ** 2 - 1) * (values[:-lag] ** 2 - 1) / 2
        assert abs(float(squares.mean())) < bound * 1.01


def test_tails_are_normal():
    values = dispatch.noise((1 << 22,), torch.tensor(5), "normal").double().abs()
    for sigmas in (3, 4, 5):
        count = int((values > sigmas).sum())
        low, high = stats.binom.interval(1 - FALSE_ALARM, len(values), 2 * stats.norm.sf(sigmas))
        assert low <= count <= high


def test_uniform_stays_inside_and_is_symmetric():
    values = dispatch.noise((1 << 20,), torch.tensor(6), "uniform")
    assert float(values.min()) > 0
    assert float(values.max()) < 1
    assert torch.equal((1 - values) * 2**23 % 1, torch.full_like(values, 0.5))  # on the same grid, end points left out


def test_noise_does_not_depend_on_threads_or_shape():
    seed, before = torch.tensor(8), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = dispatch.noise((300, 1000), seed, "normal")
        torch.set_num_threads(2)
        assert torch.equal(dispatch.noise((300_000,), seed, "normal"), one.view(-1))
    finally:
        torch.set_num_threads(before)


def test_noise_and_masks_of_one_key_are_independent():
    seed, n = torch.tensor(9), 1 << 18
    keep = dispatch.keep_mask((n,), seed, torch.tensor(0.5, dtype=torch.float64))
    values = dispatch.noise((n,), seed, "uniform").double() - 0.5
    covariance = float((values * (keep.double() - 0.5)).mean())
    assert abs(covariance) < stats.norm.isf(FALSE_ALARM / 2) * math.sqrt(1 / 12) * 0.5 / math.sqrt(n)


def test_half_precision_gets_the_same_noise():
    x, seed = torch.full((1000,), 2.0), torch.tensor(1)
    strength = torch.tensor(0.25, dtype=torch.float64)
    wide = dispatch.apply_noise(x, seed, strength, "normal", (1000,))
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(dispatch.apply_noise(x.to(dtype), seed, strength, "normal", (1000,)), wide.to(dtype))


def test_unknown_laws_are_refused():
    with pytest.raises(InputError, match="uniform"):
        dispatch.noise((3,), torch.tensor(0), "cauchy")


@needs_native
def test_operators_are_sound():
    args = (torch.tensor(1), (3, 5), 0, 1)
    torch.library.opcheck(torch.ops.dropkit.noise.default, args)
    torch.library.opcheck(torch.ops.dropkit.reference_noise.default, (*args, torch.device("cpu")))
