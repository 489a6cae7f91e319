"""A switch is taken for a rate: p=True drops everything."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/diegoantognini/pyGAT/issues/55"
RULES = ("DK302",)
ALSO = ("DK403", "DK209", "DK301")


class GAT(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.attention, self.out, self.dropout = nn.Linear(32, 64), nn.Linear(64, 7), dropout

    def forward(self, x, adjacency):
        x = F.elu(self.attention(adjacency @ x))
        x = F.dropout(x, self.dropout, training=self.training)  # <- DK302
        return F.log_softmax(self.out(x), 1)


def build():
    return GAT(dropout=True)


def inputs():
    return (torch.randn(10, 32), torch.eye(10))
