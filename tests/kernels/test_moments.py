"""Moments behind a rectifier: the native kernel beside the formulas in float64, on every layout, and who is asked."""

import pytest
import torch

from dropkit.kernels import moments
from dropkit.kernels.native import ops

native = pytest.mark.skipif(ops.KERNEL is None, reason="without a C++ compiler there is only the reference kernel")


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(shape, generator=generator), 2 * torch.rand(shape, generator=generator)


@pytest.mark.parametrize("slope", [0.0, 0.1, -0.5])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (33, 5), (3, 16385)])
def test_float32_is_near_float64(shape, slope):
    mean, variance = drawn(*shape)
    found, exact = moments.relu_moments(mean, variance, slope), moments.reference(mean.double(), variance.double(), slope)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=2e-6, atol=1e-6)


@native
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_numbers_that_are_none_pass(slope):
    nan, one = torch.tensor([float("nan"), 1.0]), torch.ones(2)
    for given in ((nan, one), (one, nan)):
        for found in moments.relu_moments(*given, slope):
            assert found.isnan().tolist() == [True, False]


@native
def test_far_from_the_kink_nothing_is_lost():
    mean, variance = torch.tensor([1e6, -1e6, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    found = moments.relu_moments(mean, variance)
    torch.testing.assert_close(found[0], torch.tensor([1e6, 0.0, 0.0]), rtol=0.0, atol=1e-15)
    torch.testing.assert_close(found[1], torch.tensor([1.0, 0.0, 0.0]), rtol=1e-6, atol=1e-15)


@native
def test_every_layout_keeps_its_form():
    mean, variance = drawn(2, 3, 4, 5)
    expected = moments.relu_moments(mean, variance)
    for change in (lambda x: x.contiguous(memory_format=torch.channels_last), lambda x: x.repeat_interleave(2, -1)[..., ::2],
                   lambda x: x.transpose(0, 2).contiguous().transpose(0, 2)):
        for one, other in zip(moments.relu_moments(change(mean), change(variance)), expected, strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    last = moments.relu_moments(*(x.contiguous(memory_format=torch.channels_last) for x in (mean, variance)))
    assert last[0].is_contiguous(memory_format=torch.channels_last)
    mixed = moments.relu_moments(mean.contiguous(memory_format=torch.channels_last), variance)
    torch.testing.assert_close(mixed[1], expected[1], rtol=1e-5, atol=1e-6)


@native
def test_opcheck_relu_moments():
    for x in (drawn(3, 5), [part.contiguous(memory_format=torch.channels_last) for part in drawn(2, 3, 4, 5)]):
        torch.library.opcheck(torch.ops.dropkit.relu_moments.default, (*x, 0.1))
    with pytest.raises(RuntimeError, match="float32 CPU tensors of one shape and layout"):
        torch.ops.dropkit.relu_moments(torch.ones(2), torch.ones(3), 0.0)
    with pytest.raises(RuntimeError, match="without gaps"):
        torch.ops.dropkit.relu_moments(torch.ones(4)[::2], torch.ones(4)[::2], 0.0)


def test_no_derivative_and_none_that_is_wrong():
    mean, variance = drawn(4, 5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        moments.relu_moments(mean.requires_grad_(), variance)[0].sum().backward()


def test_blocks_change_nothing():
    mean, variance = drawn(3, 5)
    for one, other in zip(moments.in_blocks(moments.reference, mean.mT, variance.mT, 4), moments.reference(mean, variance),
                          strict=True):
        assert torch.equal(one, other.mT)
