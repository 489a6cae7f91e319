"""The same through a dropout module: its p is set to zero in evaluation and left there."""

import torch
from torch import nn

REPORT = "https://github.com/deepspeedai/Megatron-DeepSpeed/pull/295"
RULES = ("DK102",)


class Layer(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.inner, self.outer, self.drop = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Dropout(0.2)

    def forward(self, x):
        if not self.training:
            self.drop.p = 0.0  # <- DK102
        return x + self.outer(self.drop(torch.relu(self.inner(x))))  # <- DK102


def build():
    return Layer()


def inputs():
    return torch.randn(8, 64)
