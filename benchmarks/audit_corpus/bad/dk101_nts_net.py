"""A dropout module is made anew in every forward; eval() never reaches it."""

import torch
from torch import nn

REPORT = "https://github.com/yangze0930/NTS-Net/issues/14"
RULES = ("DK101",)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean((2, 3))
        x = nn.Dropout(p=0.5)(x)  # <- DK101
        return self.fc(x)


def build():
    return Backbone()


def inputs():
    return torch.randn(4, 3, 8, 8)
