"""A tagger without its optional recurrent layer drops the same tensor twice."""

import torch
from torch import nn

REPORT = "https://github.com/flairNLP/flair/issues/3514"
RULES = ("DK206",)


class Tagger(nn.Module):
    def __init__(self, dim=48, use_rnn=False):
        super().__init__()
        self.rnn = nn.LSTM(dim, dim, batch_first=True) if use_rnn else None
        self.dropout, self.linear = nn.Dropout(0.2), nn.Linear(dim, 9)

    def forward(self, sentence):
        sentence = self.dropout(sentence)  # <- DK206
        if self.rnn is not None:
            sentence = self.rnn(sentence)[0]
        sentence = self.dropout(sentence)  # <- DK206
        return self.linear(sentence)


def build():
    return Tagger()


def inputs():
    return torch.randn(4, 7, 48)
