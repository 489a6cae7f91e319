"""The residual block of a diffusion model, with the element-wise dropout of its publication."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Ho et al., Denoising Diffusion Probabilistic Models, 2020"
RULES = ()
ALSO = ("DK204",)
ALLOWS = ("DK204",)


class Block(nn.Module):
    def __init__(self, channels, rate=0.1):
        super().__init__()
        self.norm1, self.norm2, self.time = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels), nn.Linear(16, channels)
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.drop = nn.Dropout(rate)

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        y = F.silu(self.norm2(y))
        y = self.drop(y)  # dropkit: allow DK204 (DDPM as published)
        return x + self.conv2(y)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second, self.out = (
            nn.Conv2d(3, 32, 3, padding=1), Block(32),
            Block(32), nn.Conv2d(32, 3, 3, padding=1))

    def forward(self, x, time):
        return self.out(self.second(self.first(self.stem(x), time), time))


def build():
    return Denoiser()


def inputs():
    return (torch.randn(2, 3, 8, 8), torch.rand(2, 16))
