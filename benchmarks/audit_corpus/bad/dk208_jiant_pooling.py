"""A classifier drops word states right before it takes their maximum."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/nyu-mll/jiant/issues/249"
RULES = ("DK208",)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.project, self.dropout, self.head = nn.Linear(48, 64), nn.Dropout(0.2), nn.Linear(64, 2)

    def forward(self, states):
        x = torch.tanh(self.project(states))
        x = self.dropout(x)  # <- DK208
        return self.head(F.adaptive_max_pool1d(x.transpose(1, 2), 1).flatten(1))


def build():
    return Classifier()


def inputs():
    return torch.randn(4, 7, 48)
