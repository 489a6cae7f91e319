"""The decoder drops its cell state at every step, and with it what it should remember."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/NVIDIA/mellotron/pull/15"
RULES = ("DK303",)


class Decoder(nn.Module):
    def __init__(self, dim=32, width=64, rate=0.1):
        super().__init__()
        self.cell, self.head, self.rate, self.width = nn.LSTMCell(dim, width), nn.Linear(width, 8), rate, width

    def forward(self, frames):
        hidden = cell = frames.new_zeros(frames.shape[0], self.width)
        outputs = []
        for frame in frames.unbind(1):
            hidden, cell = self.cell(frame, (hidden, cell))
            cell = F.dropout(cell, self.rate, self.training)  # <- DK303
            outputs.append(self.head(hidden))
        return torch.stack(outputs, 1)


def build():
    return Decoder()


def inputs():
    return torch.randn(4, 6, 32)
