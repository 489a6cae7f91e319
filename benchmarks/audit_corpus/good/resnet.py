"""A residual network with dropout in front of its classifier only."""

import torch
from torch import nn

REPORT = "He et al., Deep Residual Learning for Image Recognition, 2016"
RULES = ()


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(x + self.bn2(self.conv2(y)))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.blocks = (
            nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64),
            nn.Sequential(Block(64), Block(64)))
        self.drop, self.fc = nn.Dropout(0.2), nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.fc(self.drop(x.mean((2, 3))))


def build():
    return ResNet()


def inputs():
    return torch.randn(8, 3, 8, 8)
