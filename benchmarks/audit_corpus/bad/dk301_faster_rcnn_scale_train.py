"""Training is told not to scale, and evaluation does not make up for it."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/rbgirshick/py-faster-rcnn/issues/211"
RULES = ("DK301",)


class Dropout(nn.Module):
    def __init__(self, ratio=0.5, scale_train=False):
        super().__init__()
        self.ratio, self.scale_train = ratio, scale_train

    def forward(self, x):
        if not self.training:
            return x
        dropped = F.dropout(x, self.ratio)  # <- DK301
        return dropped if self.scale_train else dropped * (1 - self.ratio)  # <- DK301


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc6, self.drop, self.boxes = nn.Linear(64, 64), Dropout(), nn.Linear(64, 8)

    def forward(self, x):
        return self.boxes(self.drop(torch.relu(self.fc6(x))))  # <- DK301


def build():
    return Head()


def inputs():
    return torch.randn(32, 64)
