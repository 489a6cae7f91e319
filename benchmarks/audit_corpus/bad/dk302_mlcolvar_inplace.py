"""In-place dropout overwrites what the activation keeps for its gradient; backward fails."""

import torch
from torch import nn

REPORT = "https://github.com/luigibonati/mlcolvar/issues/118"
RULES = ("DK302",)


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(32, 64), nn.Dropout(0.2, inplace=True), nn.Linear(64, 2)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.drop(x)  # <- DK302
        return self.second(x)


def build():
    return FeedForward()


def inputs():
    return torch.randn(16, 32)
