"""Dropout follows the residual connection and the normalisation instead of preceding them."""

import torch
from torch import nn

REPORT = "https://github.com/hyunwoongko/transformer/issues/8"
RULES = ("DK202",)


class EncoderLayer(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.inner, self.outer, self.mix = nn.Linear(dim, 128), nn.Linear(128, dim), nn.Linear(dim, dim)
        self.norm1, self.norm2, self.dropout1 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.Dropout(0.1)

    def forward(self, x):
        x = self.norm1(x + self.mix(x))
        x = self.dropout1(x)  # <- DK202
        return self.norm2(x + self.outer(torch.relu(self.inner(x))))


def build():
    return EncoderLayer()


def inputs():
    return torch.randn(2, 6, 64)
