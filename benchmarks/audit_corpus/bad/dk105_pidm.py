"""The checkpoint around a diffusion block does not keep the generator's state."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

REPORT = "https://github.com/ankanbhunia/PIDM/pull/66"
RULES = ("DK105",)


class ResBlock(nn.Module):
    def __init__(self, channels=32):
        super().__init__()
        self.norm, self.first, self.drop, self.second = (
            nn.GroupNorm(8, channels), nn.Conv2d(channels, channels, 3, padding=1), nn.Dropout2d(0.1),
            nn.Conv2d(channels, channels, 3, padding=1))

    def branch(self, x):
        return self.second(self.drop(F.silu(self.first(F.silu(self.norm(x))))))  # <- DK105

    def forward(self, x):
        return x + checkpoint(self.branch, x, use_reentrant=False, preserve_rng_state=False)  # <- DK105


def build():
    return ResBlock()


def inputs():
    return torch.randn(4, 32, 6, 6)
