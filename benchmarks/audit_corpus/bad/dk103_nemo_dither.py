"""A speech front end adds dither to its signal in evaluation too."""

import torch
from torch import nn

REPORT = "https://github.com/NVIDIA-NeMo/Speech/pull/2146"
RULES = ("DK103",)


class FrontEnd(nn.Module):
    def __init__(self, dither=1e-2):
        super().__init__()
        self.dither = dither
        self.conv, self.head = nn.Conv1d(1, 32, 5, stride=2), nn.Linear(32, 8)

    def forward(self, signal):
        signal = signal + self.dither * torch.randn_like(signal)  # <- DK103
        return self.head(torch.relu(self.conv(signal)).mean(-1))


def build():
    return FrontEnd()


def inputs():
    return torch.randn(2, 1, 64)
