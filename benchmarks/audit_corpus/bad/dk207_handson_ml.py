"""The logits are computed from the layer before dropout."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/ageron/handson-ml/issues/304"
RULES = ("DK207",)


class MnistNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc1, self.output = (
            nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3), nn.Linear(512, 64), nn.Linear(64, 10))

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv2(torch.relu(self.conv1(x)))), 2).flatten(1)
        fc1 = torch.relu(self.fc1(x))
        fc1_drop = F.dropout(fc1, 0.5, training=self.training)  # <- DK207
        return self.output(fc1)


def build():
    return MnistNet()


def inputs():
    return torch.randn(4, 1, 12, 12)
