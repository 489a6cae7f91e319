"""One drop path draws its mask once and serves all blocks, so that an example loses every branch or none."""

import torch
from torch import nn

REPORT = "No report found; independent draws a block: Huang et al., Deep Networks with Stochastic Depth, 2016"
RULES = ("DK208",)
ALSO = ("DK103",)


class SharedPath(nn.Module):
    def __init__(self, rate=0.2):
        super().__init__()
        self.rate, self.mask = rate, None

    def draw(self, x):
        self.mask = x.new_empty(x.shape[0], 1).bernoulli_(1 - self.rate) / (1 - self.rate)  # <- DK208

    def forward(self, x):
        return x * self.mask if self.training else x  # <- DK208


class Model(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.path, self.head = SharedPath(), nn.Linear(dim, 5)
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim)) for _ in range(3))

    def forward(self, x):
        if self.training:
            self.path.draw(x)  # <- DK208
        for block in self.blocks:
            x = x + self.path(block(x))  # <- DK208
        return self.head(x)


def build():
    return Model()


def inputs():
    return torch.randn(16, 48)
