"""A vision transformer's attention takes the rate from a dropout module and forgets that the function knows no mode."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/huggingface/pytorch-image-models/pull/1978"
RULES = ("DK101",)


class Block(nn.Module):
    def __init__(self, dim=48, heads=3, attn_drop=0.1):
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(dim), heads
        self.qkv, self.proj, self.attn_drop = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Dropout(attn_drop)

    def forward(self, x):
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0), dropout_p=self.attn_drop.p)  # <- DK101
        return x + self.proj(y.transpose(1, 2).flatten(2))


def build():
    return Block()


def inputs():
    return torch.randn(4, 9, 48)
