"""The rate is stored, and nn.Dropout() is made with its own one half."""

import torch
from torch import nn

REPORT = "https://github.com/huawei-noah/multi_hyp_cc/pull/17"
RULES = ("DK304",)


class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.rate = dropout
        self.first, self.drop, self.second = nn.Linear(32, 64), nn.Dropout(), nn.Linear(64, 3)  # <- DK304

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))  # <- DK304


def build(dropout=0.2):
    return Net(dropout=dropout)


def inputs():
    return torch.randn(8, 32)
