"""A sentence encoder drops its embeddings functionally and leaves training at its default."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/facebookresearch/DME/issues/3"
RULES = ("DK101",)


class Encoder(nn.Module):
    def __init__(self, words=100, dim=48, emb_dropout=0.2):
        super().__init__()
        self.embed, self.emb_dropout = nn.Embedding(words, dim), emb_dropout
        self.rnn, self.head = nn.GRU(dim, 64, batch_first=True), nn.Linear(64, 3)

    def forward(self, tokens):
        x = self.embed(tokens)
        if self.emb_dropout > 0.0:
            x = F.dropout(x, p=self.emb_dropout)  # <- DK101
        return self.head(self.rnn(x)[0].amax(1))


def build():
    return Encoder()


def inputs():
    return torch.randint(100, (4, 6))
