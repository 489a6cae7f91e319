"""Activation checkpointing with preserve_rng_state=False around a block that drops."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

REPORT = "https://github.com/allenai/OLMo/pull/702"
# See also https://github.com/allenai/OLMo-core/pull/828
RULES = ("DK105",)


class Block(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.norm, self.inner, self.outer, self.drop = (
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        return x + self.drop(self.outer(torch.relu(self.inner(self.norm(x)))))  # <- DK105


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)  # <- DK105
        return x


def build():
    return Model()


def inputs():
    return torch.randn(4, 5, 48)
