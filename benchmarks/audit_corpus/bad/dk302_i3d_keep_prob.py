"""A share to keep, ported from another library, lands in p: keeping all means dropping all."""

import torch
from torch import nn

REPORT = "https://github.com/hassony2/kinetics_i3d_pytorch/issues/6"
RULES = ("DK302",)
ALSO = ("DK403", "DK209", "DK301")


class Head(nn.Module):
    def __init__(self, dropout_keep_prob=1.0):
        super().__init__()
        self.mix, self.dropout, self.logits = nn.Conv3d(64, 64, 1), nn.Dropout(dropout_keep_prob), nn.Linear(64, 12)

    def forward(self, x):
        x = torch.relu(self.mix(x)).mean((2, 3, 4))
        return self.logits(self.dropout(x))  # <- DK302


def build():
    return Head()


def inputs():
    return torch.randn(4, 64, 2, 3, 3)
