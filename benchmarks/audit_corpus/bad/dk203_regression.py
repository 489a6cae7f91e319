"""A regressor's prediction itself is dropped, so that a part of the targets is fitted by zero."""

import torch
from torch import nn

REPORT = "No report of a regression found; explained in https://github.com/weihua916/powerful-gnns/issues/16"
RULES = ("DK203",)


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(21, 64), nn.Linear(64, 1), nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(self.second(torch.relu(self.first(x))))  # <- DK203


def build():
    return Regressor()


def inputs():
    return torch.randn(16, 21)
