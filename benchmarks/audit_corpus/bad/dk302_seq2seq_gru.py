"""The same of a bidirectional GRU, built from settings that serve several depths."""

import torch
from torch import nn

REPORT = "https://github.com/IBM/pytorch-seq2seq/issues/171"
RULES = ("DK302",)


class Encoder(nn.Module):
    def __init__(self, layers=1, dropout=0.2):
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 32), nn.Linear(96, 4)
        self.rnn = nn.GRU(32, 48, layers, dropout=dropout, bidirectional=True, batch_first=True)  # <- DK302

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0].mean(1))  # <- DK302


def build():
    return Encoder()


def inputs():
    return torch.randint(30, (4, 6))
