"""A linear block puts dropout before its batch normalisation and its activation."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/FengAoWang/TMO-Net/issues/12"
RULES = ("DK201",)


class LinearLayer(nn.Module):
    def __init__(self, given, made, rate=0.4):
        super().__init__()
        self.layer, self.drop, self.norm = nn.Linear(given, made), nn.Dropout(rate), nn.BatchNorm1d(made)

    def forward(self, x):
        x = self.drop(self.layer(x))  # <- DK201
        x = self.norm(x)  # <- DK201
        return F.leaky_relu(x)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = LinearLayer(48, 64), nn.Linear(64, 8)

    def forward(self, x):
        return self.head(self.first(x))


def build():
    return Encoder()


def inputs():
    return torch.randn(64, 48)
