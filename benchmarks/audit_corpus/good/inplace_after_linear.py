"""In-place dropout where nothing needs what it overwrites."""

import torch
from torch import nn

REPORT = "https://github.com/luigibonati/mlcolvar/pull/119"
RULES = ()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(32, 64), nn.Dropout(0.2, inplace=True), nn.Linear(64, 2)

    def forward(self, x):
        x = self.drop(self.first(x))
        return self.second(torch.relu(x))


def build():
    return Net()


def inputs():
    return torch.randn(16, 32)
