"""Self-normalising layers with the dropout made for them."""

import torch
from torch import nn

REPORT = "Klambauer et al., Self-Normalizing Neural Networks, 2017"
RULES = ()


class Net(nn.Module):
    def __init__(self, rate=0.1):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(32, 128), nn.Linear(128, 128), nn.Linear(128, 3)
        self.drop1, self.drop2 = nn.AlphaDropout(rate), nn.AlphaDropout(rate)
        for layer in (self.first, self.second, self.head):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")

    def forward(self, x):
        x = self.drop1(torch.selu(self.first(x)))
        return self.head(self.drop2(torch.selu(self.second(x))))


def build():
    return Net()


def inputs():
    return torch.randn(32, 32)
