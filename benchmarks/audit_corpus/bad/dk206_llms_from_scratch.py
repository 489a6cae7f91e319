"""The feed-forward network ends with dropout and the block begins its shortcut with another."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/rasbt/LLMs-from-scratch/pull/105"
RULES = ("DK206",)


class FeedForward(nn.Module):
    def __init__(self, dim, rate):
        super().__init__()
        self.inner, self.outer, self.drop = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim), nn.Dropout(rate)

    def forward(self, x):
        return self.drop(self.outer(F.gelu(self.inner(x))))  # <- DK206


class Block(nn.Module):
    def __init__(self, dim=48, rate=0.1):
        super().__init__()
        self.norm, self.ff, self.drop_resid = nn.LayerNorm(dim), FeedForward(dim, rate), nn.Dropout(rate)

    def forward(self, x):
        return x + self.drop_resid(self.ff(self.norm(x)))  # <- DK206


def build():
    return Block()


def inputs():
    return torch.randn(2, 6, 48)
