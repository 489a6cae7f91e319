"""A temporal convolutional network with channel dropout in its branches."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Bai et al., An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling, 2018"
RULES = ()


class Block(nn.Module):
    def __init__(self, channels, dilation, rate=0.2):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv1d(channels, channels, 3, dilation=dilation) for _ in range(2))
        self.drop1, self.drop2, self.pad = nn.Dropout1d(rate), nn.Dropout1d(rate), 2 * dilation

    def forward(self, x):
        y = self.drop1(torch.relu(self.conv1(F.pad(x, (self.pad, 0)))))
        return x + self.drop2(torch.relu(self.conv2(F.pad(y, (self.pad, 0)))))


class TCN(nn.Module):
    def __init__(self, channels=32):
        super().__init__()
        self.stem, self.widen = nn.Conv1d(8, channels, 3, padding=1), nn.Conv1d(channels, channels, 3, padding=1)
        self.blocks, self.head = nn.ModuleList(Block(channels, 2 ** depth) for depth in range(2)), nn.Linear(channels, 5)

    def forward(self, x):
        x = torch.relu(self.widen(torch.relu(self.stem(x))))
        for block in self.blocks:
            x = block(x)
        return self.head(x[..., -1])


def build():
    return TCN()


def inputs():
    return torch.randn(2, 8, 24)
