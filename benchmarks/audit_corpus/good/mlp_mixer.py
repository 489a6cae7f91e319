"""Mixing over tokens and channels, with dropout inside both branches."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, 2021"
RULES = ()


class MLP(nn.Module):
    def __init__(self, dim, hidden, rate=0.1):
        super().__init__()
        self.inner, self.outer, self.drop1, self.drop2 = (
            nn.Linear(dim, hidden), nn.Linear(hidden, dim),
            nn.Dropout(rate), nn.Dropout(rate))

    def forward(self, x):
        return self.drop2(self.outer(self.drop1(F.gelu(self.inner(x)))))


class Mixer(nn.Module):
    def __init__(self, tokens=16, dim=64):
        super().__init__()
        self.embed, self.norm1, self.norm2, self.norm3 = (
            nn.Linear(dim, dim), nn.LayerNorm(dim),
            nn.LayerNorm(dim), nn.LayerNorm(dim))
        self.over_tokens, self.over_channels, self.head = MLP(tokens, 32), MLP(dim, 128), nn.Linear(dim, 10)

    def forward(self, patches):
        x = self.embed(patches)
        x = x + self.over_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.over_channels(self.norm2(x))
        return self.head(self.norm3(x).mean(1))


def build():
    return Mixer()


def inputs():
    return torch.randn(2, 16, 64)
