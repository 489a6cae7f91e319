"""Attention over the whole sequence keeps its dropout while speech is generated."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/suno-ai/bark/pull/662"
# See also https://github.com/wenet-e2e/wenet/issues/2699
RULES = ("DK101",)


class FineModel(nn.Module):
    def __init__(self, codes=40, dim=64, dropout=0.1):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Embedding(codes, dim), nn.Linear(dim, 3 * dim), nn.Linear(dim, codes)
        self.dropout = dropout

    def forward(self, tokens):
        q, k, v = self.qkv(self.embed(tokens)).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)  # <- DK101
        return self.head(y)


def build():
    return FineModel()


def inputs():
    return torch.randint(40, (2, 7))
