"""Survivors are divided by the rate instead of by one minus the rate."""

import torch
from torch import nn

REPORT = "https://github.com/lmjohns3/theanets/pull/123"
RULES = ("DK301",)


class BernoulliDropout(nn.Module):
    def __init__(self, weight=0.2):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        if not self.training:
            return x
        return x * torch.empty_like(x).bernoulli_(1 - self.weight) / self.weight  # <- DK301


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(64, 64), BernoulliDropout(), nn.Linear(64, 4)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))  # <- DK301


def build():
    return Net()


def inputs():
    return torch.randn(32, 64)
