"""One mask a sequence for the recurrent state, drawn before the first step."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Gal and Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks, 2016"
RULES = ()


class Variational(nn.Module):
    def __init__(self, width=64, rate=0.25):
        super().__init__()
        self.cell, self.head, self.width, self.rate = nn.GRUCell(32, width), nn.Linear(width, 5), width, rate

    def forward(self, x):
        state = x.new_zeros(x.shape[0], self.width)
        mask = F.dropout(torch.ones_like(state), self.rate, self.training)
        for step in x.unbind(1):
            state = self.cell(step, state * mask)
        return self.head(state)


def build():
    return Variational()


def inputs():
    return torch.randn(4, 6, 32)
