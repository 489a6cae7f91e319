"""Noise a layer is part of the generator's model of images and stays on."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, 2019"
RULES = ()
ALLOWS = ("DK103",)


class Synthesis(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.conv, self.strength, self.image = (
            nn.Linear(64, 64 * 16), nn.Conv2d(64, 32, 3, padding=1),
            nn.Parameter(torch.full((32, 1, 1), 0.1)), nn.Conv2d(32, 3, 1))

    def forward(self, style):
        x = self.conv(self.start(style).view(-1, 64, 4, 4))
        noise = torch.randn(x.shape[0], 1, 4, 4)  # dropkit: allow DK103 (StyleGAN's noise input)
        return self.image(F.leaky_relu(x + self.strength * noise, 0.2))


def build():
    return Synthesis()


def inputs():
    return torch.randn(4, 64)
