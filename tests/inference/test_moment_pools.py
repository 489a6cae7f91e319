"""Max pooling: Clark's formulas beside samples, and where they are refused."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.inference.moment_pools import larger
from dropkit.inference.moment_rules import RULES, Moments

sys.path.insert(0, str(Path(__file__).parent))
from moment_nets import close, layer, normal


def test_the_larger_of_two_normal_values():
    """Against an integral over a grid."""
    (m, v), (n, w) = ((torch.tensor([a]).double(), torch.tensor([b]).double()) for a, b in ((0.3, 2.0), (0.9, 0.5)))
    mean, variance = larger((m, v), (n, w))
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    weights = torch.exp(-(z[:, None].square() + z.square()) / 2)
    y = torch.maximum((m + v.sqrt() * z)[:, None], n + w.sqrt() * z)
    expected = (weights * y).sum() / weights.sum()
    close(mean[0], expected, rtol=1e-5, atol=0.0)
    close(variance[0], (weights * (y - expected).square()).sum() / weights.sum(), rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d((2, 1), dilation=2), nn.MaxPool1d(3)])
def test_what_does_not_vary_is_pooled_as_it_is(pool):
    x = normal(2, 3, 9) if isinstance(pool, nn.MaxPool1d) else normal(2, 3, 7, 8)
    found = RULES[type(pool)](pool, Moments(x, torch.zeros_like(x)))
    close(found.mean, pool(x))
    close(found.variance, torch.zeros_like(found.mean))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)])
def test_windows_of_normal_values_against_samples(pool):
    """4 standard errors of the mean of 20,000 samples, and a ninth of a deviation for taking the larger of two as normal."""
    mean, deviation = normal(1, 2, 6, 6), 0.5 + normal(1, 2, 6, 6, seed=1).sigmoid()
    found = RULES[type(pool)](pool, Moments(mean, deviation.square()))
    samples = pool(mean + deviation * normal(20_000, 2, 6, 6, seed=2))
    off = (found.mean[0] - samples.mean(0)).abs() / samples.std(0)
    assert float(off.max()) < 4 / 20_000**0.5 + 1 / 9
    assert float((found.std[0] / samples.std(0) - 1).abs().max()) < 0.15


class Called(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.drop, self.pool = nn.Dropout(0.3), pool
        self.one, self.two = layer(4, 8, bias=False), layer(4, 2, seed=2, bias=False)

    def forward(self, x):
        return self.two(self.pool(self.one(self.drop(x))))


def test_calls_of_functions_are_as_modules():
    x, linearised = normal(3, 4), {"linearised": True}
    for way in ({}, linearised):
        module = dk.moment_predict(Called(nn.MaxPool1d(2)), x, **way)
        called = dk.moment_predict(Called(lambda y: F.max_pool1d(y, kernel_size=2)), x, **way)
        close(module.mean, called.mean)
        close(module.variance, called.variance)


def test_what_is_too_far_is_refused():
    model = nn.Sequential(nn.Dropout(0.3), nn.MaxPool1d(2))
    with pytest.raises(dk.InputError, match=r"right before it at '1'|at '1'.*right before it"):
        dk.moment_predict(model, torch.ones(1, 1, 4))
    for pool in (nn.MaxPool1d(2, ceil_mode=True), nn.MaxPool1d(2, return_indices=True)):
        with pytest.raises(dk.InputError, match="whole windows"):
            dk.moment_predict(nn.Sequential(nn.Dropout(0.3), layer(4, 4), pool), torch.ones(1, 1, 4).double())
