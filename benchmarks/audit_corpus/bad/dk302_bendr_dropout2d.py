"""Dropout2d on sequences of shape (N, C, L)."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/SPOClab-ca/BENDR/issues/16"
# See also https://github.com/pytorch/pytorch/issues/77081
RULES = ("DK302",)
ALSO = ("DK205",)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(20, 32, 3), nn.Conv1d(32, 64, 3), nn.Conv1d(64, 64, 3)
        self.drop, self.head = nn.Dropout2d(0.2), nn.Linear(64, 2)

    def forward(self, x):
        x = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        x = self.drop(F.gelu(self.conv3(x)))  # <- DK302
        return self.head(x.mean(-1))


def build():
    return Encoder()


def inputs():
    return torch.randn(4, 20, 32)
