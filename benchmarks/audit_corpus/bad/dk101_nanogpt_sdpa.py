"""Causal self-attention hands its rate to the fused attention in every mode."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/karpathy/nanoGPT/pull/240"
RULES = ("DK101",)


class Attention(nn.Module):
    def __init__(self, width=64, heads=4, dropout=0.2):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout, is_causal=True)  # <- DK101
        return self.out(y.transpose(1, 2).flatten(2))


def build():
    return Attention()


def inputs():
    return torch.randn(4, 8, 64)
