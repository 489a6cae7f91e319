"""A detector made stochastic with nn.Dropout between its last convolutions."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/tjiagoM/stochastic-YOLO/issues/2"
RULES = ("DK204",)


class Detector(nn.Module):
    def __init__(self, drop=0.25):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1), nn.Conv2d(64, 64, 3, 1, 1)
        self.drop, self.detect = nn.Dropout(drop), nn.Conv2d(64, 18, 1)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.leaky_relu(conv(x), 0.1)
        x = self.drop(x)  # <- DK204
        return self.detect(x)


def build():
    return Detector()


def inputs():
    return torch.randn(2, 3, 16, 16)
