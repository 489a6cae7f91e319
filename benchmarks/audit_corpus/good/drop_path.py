"""Stochastic depth a branch: off in evaluation, scaled in training, drawn anew for each block."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/huggingface/pytorch-image-models/issues/2118"
# See also Huang et al., Deep Networks with Stochastic Depth, 2016
RULES = ()


class DropPath(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], *(1,) * (x.dim() - 1)).bernoulli_(keep) / keep


class Block(nn.Module):
    def __init__(self, dim, rate):
        super().__init__()
        self.norm, self.inner, self.outer, self.path = nn.LayerNorm(dim), nn.Linear(dim, 96), nn.Linear(96, dim), DropPath(rate)

    def forward(self, x):
        return x + self.path(self.outer(F.gelu(self.inner(self.norm(x)))))


class Model(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.embed, self.head = nn.Linear(dim, dim), nn.Linear(dim, 10)
        self.blocks = nn.ModuleList(Block(dim, rate) for rate in (0.0, 0.1, 0.2))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def build():
    return Model()


def inputs():
    return torch.randn(16, 48)
