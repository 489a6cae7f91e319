"""Dropout stands behind the last convolution of a segmentation head, before upsampling and softmax only."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/kshitizrimal/Fast-SCNN/issues/1"
RULES = ("DK203",)
ALSO = ("DK204",)


class Segmenter(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.conv1, self.conv2, self.classify = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, classes, 1))
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = self.drop(self.classify(x))  # <- DK203
        return torch.softmax(F.interpolate(x, scale_factor=2), 1)


def build():
    return Segmenter()


def inputs():
    return torch.randn(4, 3, 8, 8)
