"""Dropout in front of max pooling, which picks the scaled survivors."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/nagadomi/kaggle-cifar10-torch7/issues/5"
RULES = ("DK208",)
ALSO = ("DK204", "DK205")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
        self.drop, self.fc = nn.Dropout(0.25), nn.Linear(64 * 36, 10)

    def forward(self, x):
        x = torch.relu(self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x))))))
        x = self.drop(x)  # <- DK208
        x = F.max_pool2d(x, 2)
        return self.fc(x.flatten(1))


def build():
    return Net()


def inputs():
    return torch.randn(4, 3, 12, 12)
