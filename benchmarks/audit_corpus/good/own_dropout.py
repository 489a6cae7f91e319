"""A mask of one's own, off in evaluation and scaled in training."""

import torch
from torch import nn

REPORT = "https://github.com/lmjohns3/theanets/pull/123"
RULES = ()


class Dropout(nn.Module):
    def __init__(self, rate=0.2):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand_like(x) >= self.rate) / (1 - self.rate)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(64, 64), Dropout(), nn.Linear(64, 4)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))


def build():
    return Net()


def inputs():
    return torch.randn(32, 64)
