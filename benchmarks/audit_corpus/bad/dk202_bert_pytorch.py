"""The block drops what it returns: the residual stream itself."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/codertimo/BERT-pytorch/issues/85"
RULES = ("DK202",)


class Block(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.attend, self.norm1, self.norm2 = (
            nn.MultiheadAttention(dim, 4, batch_first=True),
            nn.LayerNorm(dim), nn.LayerNorm(dim))
        self.inner, self.outer, self.dropout = nn.Linear(dim, 96), nn.Linear(96, dim), nn.Dropout(0.1)

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attend(y, y, y, need_weights=False)[0]
        x = x + self.outer(F.gelu(self.inner(self.norm2(x))))
        return self.dropout(x)  # <- DK202


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = Block(), Block(), nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def build():
    return Encoder()


def inputs():
    return torch.randn(2, 6, 48)
