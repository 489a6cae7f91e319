"""Grouped-query attention whose documentation promises that the rate is ignored out of training."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/meta-pytorch/torchtune/issues/1791"
RULES = ("DK101",)


class GroupedAttention(nn.Module):
    def __init__(self, dim=64, heads=4, groups=2, attn_dropout=0.1):
        super().__init__()
        self.heads, self.groups, self.attn_dropout = heads, groups, attn_dropout
        self.q, self.kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * groups * dim // heads)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, self.groups, -1)).permute(2, 0, 3, 1, 4)
        k, v = (part.repeat_interleave(self.heads // self.groups, 1) for part in (k, v))
        y = F.scaled_dot_product_attention(  # <- DK101
            q, k, v, dropout_p=self.attn_dropout, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


def build():
    return GroupedAttention()


def inputs():
    return torch.randn(2, 6, 64)
