"""eval() is overridden to remove the rate; train() has no counterpart."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/NVIDIA/Megatron-LM/pull/318"
RULES = ("DK102",)


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.inner, self.outer, self.rate = nn.Linear(dim, 64), nn.Linear(64, dim), 0.1

    def train(self, mode=True):
        if not mode:
            self.rate = 0.0  # <- DK102
        return super().train(mode)

    def forward(self, x):
        hidden = torch.relu(self.inner(x))
        return self.outer(F.dropout(hidden, self.rate, self.training))  # <- DK102


def build():
    return Encoder()


def inputs():
    return torch.randn(8, 32)
