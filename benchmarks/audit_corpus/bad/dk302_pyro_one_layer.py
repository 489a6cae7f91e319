"""A recurrent layer is given a rate that it can apply nowhere, for it is one layer deep."""

import torch
from torch import nn

REPORT = "https://github.com/pyro-ppl/pyro/issues/1415"
RULES = ("DK302",)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(32, 64, num_layers=1, dropout=0.1, batch_first=True)  # <- DK302
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x, _ = self.rnn(x)  # <- DK302
        return self.head(x[:, -1])


def build():
    return Model()


def inputs():
    return torch.randn(4, 6, 32)
