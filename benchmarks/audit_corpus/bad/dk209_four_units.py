"""Half of a hidden layer of four units is dropped; one example in sixteen loses them all."""

import torch
from torch import nn

REPORT = "https://www.mql5.com/en/neurobook/index/improvement_realization/dropout_realization/dropout_comparison"
RULES = ("DK209",)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Linear(8, 4), nn.Linear(4, 1), nn.Dropout(0.5)

    def forward(self, x):
        return self.second(self.drop(torch.relu(self.first(x))))  # <- DK209


def build():
    return Net()


def inputs():
    return torch.randn(16, 8)
