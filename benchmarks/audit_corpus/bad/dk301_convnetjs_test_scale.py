"""Test-time scaling multiplies by the rate where it should multiply by the share that is kept."""

import torch
from torch import nn

REPORT = "https://github.com/karpathy/convnetjs/pull/106"
# See also https://github.com/karpathy/convnetjs/pull/61
RULES = ("DK301",)


class Dropout(nn.Module):
    def __init__(self, drop_prob=0.2):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if self.training:
            return x * (torch.rand_like(x) >= self.drop_prob)  # <- DK301
        return x * self.drop_prob  # <- DK301


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(64, 64), Dropout(), nn.Linear(64, 4)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))  # <- DK301


def build():
    return Net()


def inputs():
    return torch.randn(32, 64)
