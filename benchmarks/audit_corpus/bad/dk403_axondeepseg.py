"""Three quarters are dropped between the layers of a small perceptron."""

import torch
from torch import nn

REPORT = "https://github.com/axondeepseg/axondeepseg/issues/13"
RULES = ("DK403",)


class Perceptron(nn.Module):
    def __init__(self, rate=0.75):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.drop1, self.drop2 = nn.Dropout(rate), nn.Dropout(rate)

    def forward(self, x):
        x = self.drop1(torch.relu(self.first(x)))  # <- DK403
        x = self.drop2(torch.relu(self.second(x)))  # <- DK403
        return self.head(x)


def build():
    return Perceptron()


def inputs():
    return torch.randn(16, 32)
