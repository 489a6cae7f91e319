"""The model has no way to pass a rate to its attention, whose default is none."""

import torch
from torch import nn

REPORT = "https://github.com/lucidrains/reformer-pytorch/issues/1"
RULES = ("DK304",)


class Attention(nn.Module):
    def __init__(self, dim, dropout=0.0):
        super().__init__()
        self.qkv, self.dropout = nn.Linear(dim, 3 * dim), nn.Dropout(dropout)  # <- DK304

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.dropout(torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)) @ v  # <- DK304


class Reformer(nn.Module):
    def __init__(self, dim=32, dropout=0.1):
        super().__init__()
        self.attend, self.norm, self.head, self.dropout = (  # <- DK304
            Attention(dim), nn.LayerNorm(dim),  # <- DK304
            nn.Linear(dim, 9), dropout)  # <- DK304

    def forward(self, x):
        return self.head(x + self.attend(self.norm(x)))


def build(dropout=0.1):
    return Reformer(dropout=dropout)


def inputs():
    return torch.randn(2, 6, 32)
