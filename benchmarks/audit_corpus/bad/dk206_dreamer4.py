"""A gated MLP drops its result, and the causal layer around it drops that again."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/nicklashansen/dreamer4/issues/8"
RULES = ("DK206",)


class GatedMLP(nn.Module):
    def __init__(self, dim, rate):
        super().__init__()
        self.fc_in, self.fc_out, self.drop = nn.Linear(dim, 4 * dim), nn.Linear(2 * dim, dim), nn.Dropout(rate)

    def forward(self, x):
        gate, value = self.fc_in(x).chunk(2, -1)
        hidden = self.drop(gate * F.silu(value))
        return self.drop(self.fc_out(hidden))  # <- DK206


class CausalLayer(nn.Module):
    def __init__(self, dim=32, rate=0.05):
        super().__init__()
        self.norm, self.mlp, self.drop3 = nn.LayerNorm(dim), GatedMLP(dim, rate), nn.Dropout(rate)

    def forward(self, x):
        return x + self.drop3(self.mlp(self.norm(x)))  # <- DK206


def build():
    return CausalLayer()


def inputs():
    return torch.randn(2, 6, 32)
