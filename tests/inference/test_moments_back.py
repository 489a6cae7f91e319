"""Outputs followed back to what varies: exact where the model is linear in its masks, near sampling elsewhere."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
from moment_nets import Block, close, enumerated, layer, normal, trained


def back(model, x):
    return dk.moment_predict(model, x, linearised=True)


@pytest.mark.parametrize("drop", [nn.Dropout(0.3), dk.nn.Dropout(0.3), dk.nn.Dropout(0.3, scaling="classic"),
                                  dk.nn.GaussianDropout(0.3), dk.nn.UniformDropout(0.5)])
def test_linear_layers_are_exact_however_many(drop):
    model, x = nn.Sequential(drop, layer(5, 6), layer(6, 4, seed=2), layer(4, 3, seed=3)), normal(2, 5)
    whole = nn.Sequential(drop, layer(5, 3))
    with torch.no_grad():
        whole[1].weight.copy_(model[3].weight @ model[2].weight @ model[1].weight)
        whole[1].bias.copy_(model[1:](torch.zeros(5, dtype=torch.float64)))
    found, expected = back(model, x), dk.moment_predict(whole, x)
    close(found.mean, expected.mean)
    close(found.variance, expected.variance)
    close(back(whole, x).variance, expected.variance)


@pytest.mark.parametrize(("drop", "groups"), [
    (nn.Dropout1d(0.3), [0, 0, 0, 1, 1, 1]), (dk.nn.Dropout1d(0.3), [0, 0, 0, 1, 1, 1]),
    (dk.nn.Dropout1d(0.3, channel_dim=-1), [0, 1, 2, 0, 1, 2]), (dk.nn.Dropout(0.3, share_dims=(1,)), [0, 1, 2, 0, 1, 2]),
    (dk.nn.LockedDropout(0.3, batch_first=True), [0, 1, 2, 0, 1, 2]), (dk.nn.DropNode(0.3), [0, 0, 0, 1, 1, 1]),
    (dk.nn.DropPath(0.3), [0] * 6), (nn.Dropout(0.3), [0, 1, 2, 3, 4, 5])],
    ids=["torch's channels", "channels", "channels last", "shared", "locked", "nodes", "paths", "elements"])
def test_elements_that_share_a_decision_vary_together(drop, groups):
    model, x = nn.Sequential(drop, nn.AvgPool1d(3), nn.Flatten(), layer(2, 3)), normal(1, 2, 3)
    masks = torch.ones(max(groups) + 1, dtype=torch.float64)
    mean, variance = enumerated(masks, 0.3, lambda m: model[1:](x * m[:, groups].view(-1, 2, 3)))
    found = back(model, x)
    close(found.mean[0], mean)
    close(found.variance[0], variance)


def test_two_ways_of_one_mask():
    class Ways(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = layer(4, 3), layer(4, 3, seed=2)

        def forward(self, x):
            x = F.dropout(x, 0.3, self.training)
            return self.one(x) - self.two(x), x + x

    model, x = Ways(), normal(2, 4)
    found, doubled = back(model, x)
    close(found.variance, x.square() @ (model.one.weight - model.two.weight).square().T * (0.3 / 0.7))
    close(doubled.variance, 4 * x.square() * (0.3 / 0.7))
    close(back(Block(), x.new_ones(3, 6)).variance, dk.moment_predict(Block(), x.new_ones(3, 6)).variance)


def test_masks_behind_an_activation():
    """Against covariances, followed forwards: two ways that share no step behind the first layer."""
    model = nn.Sequential(nn.Dropout(0.2), layer(64, 64), nn.ReLU(), nn.Dropout(0.4), layer(64, 3, seed=2))
    x = normal(4, 64, seed=3).abs()
    other = dk.moment_predict(model, x, covariance=True).variance
    found, apart = back(model, x).variance, dk.moment_predict(model, x).variance
    assert float((found / other - 1).abs().max()) < 0.05 < float((apart / other - 1).abs().max())


def test_products_of_random_factors_and_dropped_weights():
    class Product(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5) * F.dropout(x, 0.2)

    x = normal(2, 3)
    close(back(Product(), x).variance, x**4 * (2 * 1.25 - 1))
    after = nn.Sequential(nn.Dropout(0.3), dk.nn.DropConnect(layer(1, 1, bias=False), 0.4))
    close(back(after, normal(1, 1)).variance, (layer(1, 1).weight * normal(1, 1)).square() * (1 / 0.42 - 1))
    only = nn.Sequential(dk.nn.DropConnect(layer(5, 4), 0.4, scaling="classic"))
    close(back(only, normal(2, 5)).variance, dk.moment_predict(only, normal(2, 5)).variance)


@pytest.mark.parametrize("act", [nn.GELU(), nn.Tanh(), nn.LeakyReLU(0.1), nn.Softmax(-1), nn.LayerNorm(4, dtype=torch.float64)])
def test_what_an_activation_adds_is_not_lost(act):
    """Of element-wise functions the variance right behind them is that of the forward rule; others are made linear."""
    model, x = nn.Sequential(nn.Dropout(0.3), layer(5, 4), act), normal(2, 5)
    found, expected = back(model, x), dk.moment_predict(model, x)
    close(found.mean, expected.mean)
    assert bool((found.variance > 0).all())
    if not isinstance(act, nn.Softmax | nn.LayerNorm):
        close(found.variance, expected.variance, rtol=1e-5, atol=1e-8)


def test_the_model_and_the_inputs_stay_as_they_are():
    model, x = nn.Sequential(layer(3, 3), nn.Dropout(0.5), layer(3, 3), nn.ReLU(inplace=True)), normal(2, 3)
    model[0].bias.requires_grad_(False)
    with torch.inference_mode():
        found = back(model, x * 1)
    close(found.mean, dk.moment_predict(model, x).mean)
    assert not found.variance.requires_grad
    with pytest.raises(dk.InputError):
        back(nn.Sequential(*model, nn.PReLU()), x)
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_followed_back_is_told():
    with pytest.raises(dk.InputError, match="one way"):
        dk.moment_predict(nn.Dropout(0.5), torch.ones(1, 2), linearised=True, covariance=True)
    with pytest.raises(dk.InputError, match=r"x\[None\]"):
        back(nn.Dropout(0.5), torch.ones(2))
    with pytest.raises(dk.InputError, match="first dimension"):
        back(nn.Sequential(dk.nn.Dropout(0.5, share_dims=(0,)), nn.Linear(2, 2)), torch.ones(3, 2))
    with pytest.raises(dk.InputError, match="rate above 0"):
        back(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(0.2, 0.5), (0.1, 0.1, 0.1), (0.0, 0.5, 0.5), (0.2, 0.5, 0.5), (0.0, 0.5, 0.0)])
def test_a_trained_network_against_a_hundred_thousand_samples(rates):
    """The mean within 2 percent and variances within 10, in root mean square over examples and outputs."""
    model, x = trained(*rates)
    found, passes = back(model, x), 100_000
    with torch.no_grad(), dk.keyed(0):
        samples = torch.cat([model.train()(x.expand(1000, -1, -1)) for _ in range(passes // 1000)]).double()
    mean, variance = samples.mean(0), samples.var(0)
    assert float((found.mean - mean).square().sum().sqrt() / mean.square().sum().sqrt()) < 0.02
    assert float((found.variance / variance - 1).square().mean().sqrt()) < 0.10
