"""A word model with dropout on its embeddings, between its recurrent layers and before its decoder."""

import torch
from torch import nn

REPORT = "Zaremba et al., Recurrent Neural Network Regularization, 2014"
RULES = ()


class WordModel(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.embed, self.drop, self.decode = nn.Embedding(100, width), nn.Dropout(0.3), nn.Linear(width, 100)
        self.rnn = nn.LSTM(width, width, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, tokens):
        x = self.drop(self.embed(tokens))
        x, _ = self.rnn(x)
        return self.decode(self.drop(x))


def build():
    return WordModel()


def inputs():
    return torch.randint(100, (4, 8))
