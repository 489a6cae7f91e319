"""Monte-Carlo dropout: eval() keeps the dropouts on and batch normalisation in evaluation."""

import torch
from torch import nn

REPORT = "Gal and Ghahramani, Dropout as a Bayesian Approximation, 2016"
RULES = ()
ALLOWS = ("DK101",)


class MonteCarlo(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.head = (
            nn.Linear(32, 128), nn.BatchNorm1d(128),
            nn.Dropout(0.2), nn.Linear(128, 1))

    def train(self, mode=True):
        super().train(mode)
        self.drop.train()
        return self

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.head(self.drop(x))  # dropkit: allow DK101 (Monte-Carlo dropout: predictions are averaged)


def build():
    return MonteCarlo()


def inputs():
    return torch.randn(32, 32)
