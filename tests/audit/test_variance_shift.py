"""The variances that DK201 measures are those of theory: dropout, then a linear layer or a ReLU, then BatchNorm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dropkit.audit.audit import audit
from dropkit.audit.probe import observe

RUNS, EXAMPLES = 16, 400  # of the probe in training


def _moments(terms: Tensor, offset: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """Expected variance of sums of dropped terms over examples and masks, and its standard error over the probe's runs.

    Terms are (example, channel, term); a term is multiplied by m / q with m Bernoulli(q). Given the example, the sum has the
    mean of the terms' sum, the variance (p/q) sum a^2, the third central moment sum a^3 p (p - q) / q^2, and the fourth from
    p (p^3 + q^3) / q^3.
    """
    q = 1 - p
    mean, second = terms.sum(2) + offset, p / q * terms.square().sum(2)
    third = terms.pow(3).sum(2) * p * (p - q) / q**2
    fourth = 3 * second.square() + terms.pow(4).sum(2) * (p * (p**3 + q**3) / q**3 - 3 * (p / q) ** 2)
    square = mean.square() + second
    of_square = mean.pow(4) + 6 * mean.square() * second + 4 * mean * third + fourth - square.square()
    center, count = mean.mean(0), RUNS * EXAMPLES
    variance = square.mean(0) - center.square()
    error = (of_square.mean(0) / count).sqrt() + 2 * center.abs() * (second.mean(0) / count).sqrt()
    return variance, error


def _linear(p: float, x: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    layer = nn.Linear(x.shape[1], 3).double()
    terms = x[:, None, :] * layer.weight.detach()[None]
    return nn.Sequential(nn.Dropout(p), layer, nn.BatchNorm1d(3).double()), terms, layer.bias.detach()


def _relu(p: float, x: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    norm = nn.BatchNorm1d(x.shape[1]).double()
    return nn.Sequential(nn.Dropout(p), nn.ReLU(), norm), x.relu()[:, :, None], torch.zeros(x.shape[1])


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("build", [_linear, _relu], ids=["linear", "relu"])
def test_the_measured_shift_is_that_of_theory(build: Callable[..., tuple[nn.Module, Tensor, Tensor]], p: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(EXAMPLES, 5, dtype=torch.float64) + 0.5
    model, terms, offset = build(p, x)
    expected, error = _moments(terms, offset, p)
    train, quiet = observe(model, x).batch_norm_inputs["2"]
    torch.testing.assert_close(quiet, (terms.sum(2) + offset).var(0, correction=0))
    # six standard errors in each of at most five channels: a false alarm in fewer than one of 10^7 seeds
    assert bool(((train - expected).abs() < 6 * error).all())
    assert bool((error < 0.1 * expected).all()), "a bound that tells something"
    assert bool((expected > quiet).all())


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_the_finding_tells_the_measured_shift(p: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(EXAMPLES, 5, dtype=torch.float64) + 0.5
    model, terms, offset = _relu(p, x)
    expected, error = _moments(terms, offset, p)
    quiet = (terms.sum(2) + offset).var(0, correction=0)
    (found,) = audit(model, x, select=["DK201"]).findings
    ratios, errors = expected / quiet, error / quiet
    assert float((ratios - 6 * errors).median()) < found.evidence["measured"] < float((ratios + 6 * errors).median())
