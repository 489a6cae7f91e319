"""A decoder without self-attention still adds a dropped copy of the stream to the stream."""

import torch
from torch import nn

REPORT = "https://github.com/huggingface/pytorch-image-models/pull/1012"
RULES = ("DK202",)


class Decoder(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.attend = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.norm1, self.norm2, self.dropout1, self.dropout2 = (
            nn.LayerNorm(dim), nn.LayerNorm(dim),
            nn.Dropout(0.1), nn.Dropout(0.1))
        self.embed, self.head = nn.Linear(dim, dim), nn.Linear(dim, 1)

    def forward(self, target, memory):
        target = self.embed(target)
        target = target + self.dropout1(target)  # <- DK202
        target = self.norm1(target)
        branch = self.attend(target, memory, memory, need_weights=False)[0]
        return self.head(self.norm2(target + self.dropout2(branch)))


def build():
    return Decoder()


def inputs():
    return (torch.randn(2, 4, 48), torch.randn(2, 9, 48))
