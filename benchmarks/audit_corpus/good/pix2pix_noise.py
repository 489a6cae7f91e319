"""The generator of pix2pix has dropout as its only source of noise, at test time as well."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Isola et al., Image-to-Image Translation with Conditional Adversarial Networks, 2017"
RULES = ()
ALLOWS = ("DK101",)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.down3 = (
            nn.Conv2d(3, 32, 4, 2, 1), nn.Conv2d(32, 64, 4, 2, 1), nn.Conv2d(64, 64, 3, 1, 1))
        self.up1, self.up2 = nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ConvTranspose2d(64, 3, 4, 2, 1)

    def forward(self, x):
        first = F.leaky_relu(self.down1(x), 0.2)
        x = F.leaky_relu(self.down3(F.leaky_relu(self.down2(first), 0.2)), 0.2)
        x = torch.relu(self.up1(x))
        x = F.dropout2d(x, 0.5, training=True)  # dropkit: allow DK101 (the noise of pix2pix)
        return torch.tanh(self.up2(torch.cat((x, first), 1)))


def build():
    return Generator()


def inputs():
    return torch.randn(2, 3, 16, 16)
