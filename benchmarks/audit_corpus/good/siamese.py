"""One encoder runs on both images; each run draws its own mask."""

import torch
from torch import nn

REPORT = "Koch et al., Siamese Neural Networks for One-shot Image Recognition, 2015"
RULES = ()


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop, self.compare = (
            nn.Linear(32, 128), nn.Linear(128, 64),
            nn.Dropout(0.2), nn.Linear(64, 1))

    def embed(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))

    def forward(self, left, right):
        return self.compare((self.embed(left) - self.embed(right)).abs())


def build():
    return Siamese()


def inputs():
    return (torch.randn(4, 32), torch.randn(4, 32))
