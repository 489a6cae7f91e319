"""A U-shaped network drops channels at its bottleneck."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, 2015"
RULES = ()


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.middle, self.again = (
            nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 128, 3, padding=1),
            nn.Conv2d(128, 128, 3, padding=1))
        self.drop, self.up = nn.Dropout2d(0.3), nn.ConvTranspose2d(128, 64, 2, 2)
        self.merge, self.out = nn.Conv2d(128, 32, 3, padding=1), nn.Conv2d(32, 2, 1)

    def forward(self, x):
        skip = torch.relu(self.down2(torch.relu(self.down1(x))))
        x = torch.relu(self.middle(F.max_pool2d(skip, 2)))
        x = torch.relu(self.again(x))
        x = self.up(self.drop(x))
        return self.out(torch.relu(self.merge(torch.cat((skip, x), 1))))


def build():
    return UNet()


def inputs():
    return torch.randn(2, 1, 16, 16)
