"""Models with dropout in many places."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk


class Shared(nn.Module):
    """One dropout module under two names, and used twice."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(8, 8), self.drop)

    def forward(self, x):
        return self.head(self.drop(x))


class Tagger(nn.Module):
    """Recurrent layers with their own dropout argument."""

    def __init__(self, kind=nn.LSTM, layers=2):
        super().__init__()
        self.rnn = kind(8, 8, layers, dropout=0.3 if layers > 1 else 0.0, batch_first=True)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.drop(self.rnn(x)[0])


class Own(nn.Dropout):
    """A subclass with a behaviour of its own."""

    def forward(self, input):
        return super().forward(input) + 1


def mixed():
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.ReLU(inplace=True), nn.AlphaDropout(0.2), nn.Dropout1d(0.3),
                         Own(0.4))


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def spatial():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d(0.2, inplace=True), nn.Flatten(), nn.Dropout(0.5),
                         nn.Linear(4 * 36, 2))


CASES = {
    "mixed": (mixed, torch.ones(4, 8)),
    "encoder": (encoder, torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))),
    "spatial": (spatial, torch.ones(2, 3, 8, 8)),
    "lstm": (Tagger, torch.ones(2, 5, 8)),
    "gru": (lambda: Tagger(nn.GRU), torch.ones(2, 5, 8)),
    "shared": (Shared, torch.ones(4, 8)),
    "root": (lambda: nn.Dropout(0.5), torch.ones(4, 8)),
}


class Calls(nn.Module):
    """Dropout by functions: torch's with and without a flag, dropkit's, and attention's."""

    def __init__(self, p=0.3):
        super().__init__()
        self.p, self.proj, self.norm = p, nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x):
        x = F.dropout(self.proj(x), self.p, self.training)
        x = dk.functional.dropout(self.norm(x), 0.2, self.training)
        heads = x.reshape(1, 2, len(x), 4)
        heads = F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.4 if self.training else 0.0)
        return F.alpha_dropout(heads.reshape(len(x), 8), 0.1, training=self.training)


class Always(nn.Module):
    """The mistake: attention that drops in evaluation, and a forgotten flag."""

    def forward(self, x):
        x = F.dropout(x, 0.5)
        heads = x.reshape(1, 1, *x.shape)
        return F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.4).reshape(x.shape)


def calls():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(Calls(), nn.Dropout(0.1), Calls(0.6), Own(0.2), layer)
