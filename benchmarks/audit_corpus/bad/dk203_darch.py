"""Every layer of a perceptron gets dropout, the output layer included."""

import itertools

import torch
from torch import nn

REPORT = "https://github.com/maddin79/darch/issues/12"
RULES = ("DK203",)


class Perceptron(nn.Module):
    def __init__(self, sizes=(32, 64, 64, 6), rate=0.2):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))
        self.drop = nn.Dropout(rate)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = self.drop(torch.relu(layer(x)))
        x = self.layers[-1](x)
        return self.drop(x)  # <- DK203


def build():
    return Perceptron()


def inputs():
    return torch.randn(16, 32)
