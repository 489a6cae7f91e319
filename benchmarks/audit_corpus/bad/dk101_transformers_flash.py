"""A helper for fast attention is told the rate by each of its callers, and none of them asks for the mode."""

import math

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/huggingface/transformers/pull/33844"
RULES = ("DK101",)


def fast_attention(q, k, v, dropout):
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    return F.dropout(weights, dropout) @ v  # <- DK101


class CrossAttention(nn.Module):
    def __init__(self, dim=32, dropout=0.1):
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.dropout = dropout

    def forward(self, x, memory):
        y = fast_attention(self.q(x), self.k(memory), self.v(memory), dropout=self.dropout)  # <- DK101
        return self.out(y)


def build():
    return CrossAttention()


def inputs():
    return (torch.randn(2, 5, 32), torch.randn(2, 7, 32))
