"""Small models, and what their moments are, for the tests of moments."""

import itertools

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import dropkit as dk


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(inputs, outputs, seed=1, **options):
    made = nn.Linear(inputs, outputs, dtype=torch.float64, **options)
    with torch.no_grad():
        made.weight.copy_(normal(outputs, inputs, seed=seed))
    return made


@torch.no_grad()
def enumerated(x, p, function):
    """Mean and variance of a function of a dropped vector, over all 2^n masks."""
    masks = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(x))), dtype=torch.float64)
    weights = (masks * (1 - p) + (1 - masks) * p).prod(1)[:, None]
    y = function(x * masks / (1 - p))
    mean = (weights * y).sum(0)
    return mean, (weights * (y - mean).square()).sum(0)


def close(one, other, **tolerance):
    torch.testing.assert_close(one, other, **tolerance)


class Block(nn.Module):
    """Functional dropout, a residual written in place, a shape that is asked for."""

    def __init__(self):
        super().__init__()
        self.one, self.two = layer(6, 6, bias=False), layer(6, 6, seed=2)

    def forward(self, x):
        y = F.dropout(self.one(x), 0.2, self.training)
        out = self.two(y.view(x.size(0), -1, 3).flatten(1))
        out += x
        return out / 2


def trained(*rates):
    """A small ReLU network trained on digits with its dropout, and digits that it has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    middle = [module for rate in rates[2:] for module in (nn.Linear(64, 64), nn.ReLU(), dk.nn.Dropout(rate))]
    model = nn.Sequential(dk.nn.Dropout(rates[0]), nn.Linear(64, 64), nn.ReLU(), dk.nn.Dropout(rates[1]), *middle,
                          nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:1500]), y[:1500]).backward()
        optimizer.step()
    return model, x[1500:1508]
