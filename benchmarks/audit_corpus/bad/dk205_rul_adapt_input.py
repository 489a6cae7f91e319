"""A one-dimensional convolutional network drops its input signal."""

import torch
from torch import nn

REPORT = "https://github.com/tilman151/rul-adapt/pull/16"
RULES = ("DK205",)
ALSO = ("DK204",)


class SensorNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(14, 32, 3), nn.Conv1d(32, 32, 3), nn.Conv1d(32, 32, 3)
        self.fc = nn.Linear(32, 1)

    def forward(self, x):
        x = self.drop(x)  # <- DK205
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv3(torch.relu(self.conv2(x))))
        return self.fc(x.mean(-1))


def build():
    return SensorNet()


def inputs():
    return torch.randn(8, 14, 32)
