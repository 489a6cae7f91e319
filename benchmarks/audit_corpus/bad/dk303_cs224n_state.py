"""Dropout meant for the output of a recurrent network is written back into its state."""

import torch
from torch import nn

REPORT = "https://github.com/hankcs/CS224n/pull/12"
RULES = ("DK303",)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.drop, self.head = nn.GRUCell(32, 64), nn.Dropout(0.3), nn.Linear(64, 5)

    def forward(self, words):
        state = words.new_zeros(words.shape[0], 64)
        tags = []
        for step in range(words.shape[1]):
            state = self.cell(words[:, step], state)
            state = self.drop(state)  # <- DK303
            tags.append(self.head(state))
        return torch.stack(tags, 1)


def build():
    return Tagger()


def inputs():
    return torch.randn(4, 6, 32)
