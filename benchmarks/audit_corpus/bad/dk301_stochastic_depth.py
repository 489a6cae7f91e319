"""Branches are kept or dropped in training and added in full in evaluation."""

import torch
from torch import nn

REPORT = "https://github.com/felixgwu/img_classification_pk_pytorch/issues/9"
RULES = ("DK301",)


class Path(nn.Module):
    def __init__(self, death=0.4):
        super().__init__()
        self.death = death

    def forward(self, branch):
        if not self.training:
            return branch
        alive = torch.rand(branch.shape[0], 1) >= self.death  # <- DK301
        return branch * alive  # <- DK301


class Model(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.norm, self.mix, self.path, self.head = nn.LayerNorm(dim), nn.Linear(dim, dim), Path(), nn.Linear(dim, 5)

    def forward(self, x):
        x = x + self.path(torch.relu(self.mix(self.norm(x))))  # <- DK301
        return self.head(x)


def build():
    return Model()


def inputs():
    return torch.randn(32, 48)
