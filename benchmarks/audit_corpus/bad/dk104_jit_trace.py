"""A part of the model was traced in training mode; eval() cannot reach the dropout inside the trace."""

import torch
from torch import nn

REPORT = "https://github.com/pytorch/pytorch/issues/71929"
RULES = ("DK104",)
ALSO = ("DK101", "DK103")


class Wrapped(nn.Module):
    def __init__(self, traced):
        super().__init__()
        self.traced, self.head = traced, nn.Linear(64, 4)

    def forward(self, x):
        return self.head(self.traced(x))  # <- DK104


def build():
    part = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Dropout(0.5))
    return Wrapped(torch.jit.trace(part, torch.randn(8, 32), check_trace=False))  # <- DK104


def inputs():
    return torch.randn(8, 32)
