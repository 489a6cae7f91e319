"""A feed-forward network adds its input first and drops the sum."""

import torch
from torch import nn

REPORT = "https://github.com/soobinseo/Transformer-TTS/issues/11"
RULES = ("DK202",)


class FFN(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.inner, self.outer, self.norm, self.dropout = (
            nn.Linear(dim, 128), nn.Linear(128, dim),
            nn.LayerNorm(dim), nn.Dropout(0.1))

    def forward(self, given):
        x = self.outer(torch.relu(self.inner(given)))
        x = x + given
        x = self.dropout(x)  # <- DK202
        return self.norm(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = FFN(), FFN(), nn.Linear(64, 20)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def build():
    return Model()


def inputs():
    return torch.randn(2, 6, 64)
