"""Linear, activation, dropout, batch normalisation: the running variance is that of noisy inputs."""

import torch
from torch import nn

REPORT = "https://github.com/luigibonati/mlcolvar/pull/205"
# See also https://github.com/luigibonati/mlcolvar/issues/267
RULES = ("DK201",)


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.norm, self.second = nn.Linear(32, 64), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Linear(64, 2)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.drop(x)  # <- DK201
        x = self.norm(x)  # <- DK201
        return self.second(x)


def build():
    return FeedForward()


def inputs():
    return torch.randn(64, 32)
