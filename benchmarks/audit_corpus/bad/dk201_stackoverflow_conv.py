"""Channels are dropped and batch-normalised at once; the question asks why validation loss rises."""

import torch
from torch import nn

REPORT = "https://stackoverflow.com/questions/39691902/ordering-of-batch-normalization-and-dropout"
RULES = ("DK201",)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1))
        self.drop, self.norm, self.fc = nn.Dropout2d(0.4), nn.BatchNorm2d(64), nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = self.drop(torch.relu(self.conv3(x)))  # <- DK201
        x = self.norm(x)  # <- DK201
        return self.fc(x.mean((2, 3)))


def build():
    return Net()


def inputs():
    return torch.randn(32, 3, 8, 8)
