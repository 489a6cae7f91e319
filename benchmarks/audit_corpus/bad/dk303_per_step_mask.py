"""A recurrent network of one's own draws a new mask for its hidden state at every time step."""

import torch
from torch import nn

REPORT = "https://github.com/pytorch/pytorch/issues/37731"
RULES = ("DK303",)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.given, self.back, self.head, self.drop = nn.Linear(32, 64), nn.Linear(64, 64), nn.Linear(64, 3), nn.Dropout(0.25)

    def forward(self, x):
        hidden = x.new_zeros(x.shape[0], 64)
        for step in x.unbind(1):
            hidden = torch.tanh(self.given(step) + self.back(self.drop(hidden)))  # <- DK303
        return self.head(hidden)


def build():
    return Recurrent()


def inputs():
    return torch.randn(4, 8, 32)
