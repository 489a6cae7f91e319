"""A second hidden layer is computed and passed over: neither it nor its dropout has any effect."""

import torch
from torch import nn

REPORT = "No report of this shape found; the nearest: https://github.com/ageron/handson-ml/issues/304"
RULES = ("DK207",)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head, self.drop = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 5), nn.Dropout(0.2)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        deeper = self.drop(torch.relu(self.second(hidden)))  # <- DK207
        return self.head(hidden)


def build():
    return Net()


def inputs():
    return torch.randn(8, 32)
