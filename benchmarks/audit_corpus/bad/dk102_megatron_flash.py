"""The first forward in evaluation writes zero over the rate, and training never gets it back."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/NVIDIA/Megatron-LM/pull/411"
RULES = ("DK102",)


class FlashSelfAttention(nn.Module):
    def __init__(self, dim=64, dropout=0.1):
        super().__init__()
        self.qkv, self.out, self.dropout_p = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), dropout

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if not self.training:
            self.dropout_p = 0.0  # <- DK102
        return self.out(F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout_p))  # <- DK102


def build():
    return FlashSelfAttention()


def inputs():
    return torch.randn(4, 6, 64)
