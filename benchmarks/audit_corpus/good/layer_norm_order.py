"""Batch normalisation before activation and dropout, and layer normalisation behind one."""

import torch
from torch import nn

REPORT = "https://stackoverflow.com/questions/39691902/ordering-of-batch-normalization-and-dropout"
RULES = ()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.bn, self.drop = nn.Linear(32, 128), nn.BatchNorm1d(128), nn.Dropout(0.2)
        self.second, self.ln, self.head = nn.Linear(128, 64), nn.LayerNorm(64), nn.Linear(64, 4)

    def forward(self, x):
        x = self.drop(torch.relu(self.bn(self.first(x))))
        return self.head(self.ln(torch.relu(self.second(x))))


def build():
    return Net()


def inputs():
    return torch.randn(32, 32)
