"""Word vectors arrive dropped from their embedder and are dropped again by the sentence encoder."""

import torch
from torch import nn

REPORT = "https://github.com/nyu-mll/jiant/issues/249"
RULES = ("DK206",)


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.dropout = nn.Embedding(60, 48), nn.Dropout(0.2)

    def forward(self, tokens):
        return self.dropout(self.table(tokens))  # <- DK206


class SentenceEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.dropout, self.rnn = Embedder(), nn.Dropout(0.2), nn.GRU(48, 64, batch_first=True)
        self.head = nn.Linear(64, 2)

    def forward(self, tokens):
        x = self.dropout(self.embed(tokens))  # <- DK206
        return self.head(self.rnn(x)[1][-1])


def build():
    return SentenceEncoder()


def inputs():
    return torch.randint(60, (4, 7))
