"""The rate of the settings reaches every place that uses it."""

import torch
from torch import nn

REPORT = "https://github.com/layer6ai-labs/TabDPT-inference/issues/4"
RULES = ()


class TabModel(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=dropout, batch_first=True)
        self.hidden, self.drop, self.head = nn.Linear(32, 64), nn.Dropout(dropout), nn.Linear(64, 3)

    def forward(self, rows):
        return self.head(self.drop(torch.relu(self.hidden(self.layer(rows)))))


def build(dropout=0.1):
    return TabModel(dropout=dropout)


def inputs():
    return torch.randn(2, 6, 32)
