"""A dense layer as published: element-wise dropout behind its convolution, before the next batch normalisation."""

import torch
from torch import nn

REPORT = "Huang et al., Densely Connected Convolutional Networks, 2017"
RULES = ()
ALSO = ("DK201", "DK204")
ALLOWS = ("DK201", "DK204")


class Layer(nn.Module):
    def __init__(self, channels, growth, rate=0.2):
        super().__init__()
        self.norm, self.conv, self.drop = nn.BatchNorm2d(channels), nn.Conv2d(channels, growth, 3, padding=1), nn.Dropout(rate)

    def forward(self, x):
        y = self.conv(torch.relu(self.norm(x)))  # dropkit: allow DK201 (DenseNet as published)
        return torch.cat((x, self.drop(y)), 1)  # dropkit: allow DK201, DK204 (DenseNet as published)


class DenseNet(nn.Module):
    def __init__(self, channels=32, growth=16):
        super().__init__()
        self.stem, self.widen = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)
        self.first, self.second, self.fc = (
            Layer(channels, growth), Layer(channels + growth, growth),
            nn.Linear(channels + 2 * growth, 10))

    def forward(self, x):
        x = self.second(self.first(self.widen(torch.relu(self.stem(x)))))
        return self.fc(torch.relu(x).mean((2, 3)))


def build():
    return DenseNet()


def inputs():
    return torch.randn(8, 3, 8, 8)
