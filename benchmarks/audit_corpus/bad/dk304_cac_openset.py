"""The classifier does not hand its rate on, and the encoder uses its own default."""

import torch
from torch import nn

REPORT = "https://github.com/dimitymiller/cac-openset/issues/1"
RULES = ("DK304",)


class BaseEncoder(nn.Module):
    def __init__(self, dropout=0.3):
        super().__init__()
        self.fc, self.drop = nn.Linear(32, 64), nn.Dropout(dropout)  # <- DK304

    def forward(self, x):
        return self.drop(torch.relu(self.fc(x)))  # <- DK304


class ClosedSet(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.encoder, self.dropout, self.classify = BaseEncoder(), dropout, nn.Linear(64, 6)  # <- DK304

    def forward(self, x):
        return self.classify(self.encoder(x))


def build(dropout=0.2):
    return ClosedSet(dropout=dropout)


def inputs():
    return torch.randn(4, 32)
