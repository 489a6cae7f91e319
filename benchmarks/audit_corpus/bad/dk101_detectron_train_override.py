"""An overridden train() sets the flag of the model alone, so its children stay in training."""

import torch
from torch import nn

REPORT = "https://github.com/roytseng-tw/Detectron.pytorch/issues/104"
RULES = ("DK101",)


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(32, 64), nn.Dropout(0.3), nn.Linear(64, 5)

    def train(self, mode=True):
        self.training = mode
        return self

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.body(x))))  # <- DK101


def build():
    return Detector()


def inputs():
    return torch.randn(8, 32)
