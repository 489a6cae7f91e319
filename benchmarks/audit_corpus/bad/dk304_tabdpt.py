"""The constructor takes a rate and passes zero to its encoder layers."""

import torch
from torch import nn

REPORT = "https://github.com/layer6ai-labs/TabDPT-inference/issues/4"
RULES = ("DK304",)


class TabModel(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)  # <- DK304
        self.head = nn.Linear(32, 3)

    def forward(self, rows):
        return self.head(self.layer(rows))  # <- DK304


def build(dropout=0.1):
    return TabModel(dropout=dropout)


def inputs():
    return torch.randn(2, 6, 32)
