"""A convolutional classifier with training=True written out."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/Coderx7/SimpleNet/issues/2"
RULES = ("DK101",)


class SimpleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x))))))
        x = F.max_pool2d(x, x.shape[2:])
        x = F.dropout2d(x, 0.1, training=True)  # <- DK101
        return self.classifier(x.flatten(1))


def build():
    return SimpleNet()


def inputs():
    return torch.randn(4, 3, 8, 8)
