"""A hand-written drop path that does not ask for the mode."""

import torch
from torch import nn

REPORT = "https://github.com/WangFeng18/Swin-Transformer/issues/7"
RULES = ("DK103|DK101",)


class Block(nn.Module):
    def __init__(self, dim=32, drop_path=0.2):
        super().__init__()
        self.norm, self.mix, self.rate = nn.LayerNorm(dim), nn.Linear(dim, dim), drop_path

    def forward(self, x):
        branch = self.mix(self.norm(x))
        keep = 1 - self.rate
        mask = torch.rand(x.shape[0], 1, 1, device=x.device) < keep  # <- DK103 DK101
        return x + branch * mask / keep  # <- DK103 DK101


def build():
    return Block()


def inputs():
    return torch.randn(16, 4, 32)
