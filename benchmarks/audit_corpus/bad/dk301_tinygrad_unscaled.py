"""A mask without any scale: evaluation sees larger activations than training."""

import torch
from torch import nn

REPORT = "https://github.com/tinygrad/tinygrad/pull/170"
RULES = ("DK301",)


class Dropout(nn.Module):
    def __init__(self, prob=0.5):
        super().__init__()
        self.prob = prob

    def forward(self, x):
        if self.training:
            mask = torch.bernoulli(torch.full_like(x, 1 - self.prob))  # <- DK301
            x = x * mask  # <- DK301
        return x


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
