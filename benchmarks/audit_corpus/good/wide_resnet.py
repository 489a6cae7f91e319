"""A wide residual block as published: dropout between its convolutions, behind the batch normalisation."""

import torch
from torch import nn

REPORT = "Zagoruyko and Komodakis, Wide Residual Networks, 2016"
RULES = ()
ALSO = ("DK204", "DK201")
ALLOWS = ("DK204",)


class Block(nn.Module):
    def __init__(self, channels, rate=0.3):
        super().__init__()
        self.bn1, self.bn2, self.drop = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels), nn.Dropout(rate)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x):
        y = torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x)))))
        y = self.drop(y)  # dropkit: allow DK204 (wide residual networks as published)
        return x + self.conv2(y)


class WideResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block, self.fc = nn.Conv2d(3, 64, 3, padding=1), Block(64), nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.block(self.stem(x))).mean((2, 3)))


def build():
    return WideResNet()


def inputs():
    return torch.randn(8, 3, 8, 8)
