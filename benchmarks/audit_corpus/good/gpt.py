"""A decoder with dropped embeddings, attention and branches, and none behind its last normalisation."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Radford et al., Language Models are Unsupervised Multitask Learners, 2019"
RULES = ()


class Block(nn.Module):
    def __init__(self, dim, heads=4, rate=0.1):
        super().__init__()
        self.norm1, self.norm2, self.heads, self.rate = nn.LayerNorm(dim), nn.LayerNorm(dim), heads, rate
        self.qkv, self.proj, self.inner, self.outer = (
            nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim))
        self.drop1, self.drop2 = nn.Dropout(rate), nn.Dropout(rate)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.rate if self.training else 0.0)
        x = x + self.drop1(self.proj(y.transpose(1, 2).flatten(2)))
        return x + self.drop2(self.outer(F.gelu(self.inner(self.norm2(x)))))


class GPT(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.words, self.places, self.drop = nn.Embedding(100, dim), nn.Embedding(16, dim), nn.Dropout(0.1)
        self.blocks, self.norm, self.head = (
            nn.ModuleList(Block(dim) for _ in range(2)), nn.LayerNorm(dim), nn.Linear(dim, 100, bias=False))
        self.head.weight = self.words.weight

    def forward(self, tokens):
        x = self.drop(self.words(tokens) + self.places(torch.arange(tokens.shape[1])))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build():
    return GPT()


def inputs():
    return torch.randint(100, (2, 8))
