"""Symbolic tracing turns training=self.training into a constant."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/pytorch/pytorch/issues/68190"
RULES = ("DK104",)
ALSO = ("DK101",)


class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(32, 64)

    def forward(self, x):
        return F.dropout(torch.relu(self.inner(x)), 0.3, training=self.training)  # <- DK104


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = torch.fx.symbolic_trace(Part())  # <- DK104
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.part(x))  # <- DK104


def build():
    return Wrapped()


def inputs():
    return torch.randn(8, 32)
