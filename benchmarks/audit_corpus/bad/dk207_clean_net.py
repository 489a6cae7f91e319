"""The next layer reads h0 although h holds the dropped values."""

import torch
from torch import nn

REPORT = "https://github.com/kuanghuei/clean-net/issues/2"
RULES = ("DK207",)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(64, 64), nn.Linear(64, 16), nn.Dropout(0.2)

    def forward(self, x):
        h0 = torch.tanh(self.first(x))
        h = self.drop(h0)  # <- DK207
        h = self.second(h0)
        return torch.tanh(h)


def build():
    return Encoder()


def inputs():
    return torch.randn(8, 64)
