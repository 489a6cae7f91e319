"""Gated dilated convolutions with channel dropout inside each branch."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "van den Oord et al., WaveNet: A Generative Model for Raw Audio, 2016"
RULES = ()


class Layer(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.gate, self.residual, self.skip = (
            nn.Conv1d(channels, 2 * channels, 2, dilation=dilation),
            nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1))
        self.drop, self.dilation = nn.Dropout1d(0.1), dilation

    def forward(self, x):
        signal, gate = self.gate(F.pad(x, (self.dilation, 0))).chunk(2, 1)
        y = self.drop(torch.tanh(signal) * torch.sigmoid(gate))
        return x + self.residual(y), self.skip(y)


class WaveNet(nn.Module):
    def __init__(self, channels=32):
        super().__init__()
        self.embed, self.first, self.second = (
            nn.Embedding(32, channels), nn.Conv1d(channels, channels, 3, padding=1),
            nn.Conv1d(channels, channels, 3, padding=1))
        self.layers, self.out = nn.ModuleList(Layer(channels, 2 ** depth) for depth in range(3)), nn.Conv1d(channels, 32, 1)

    def forward(self, samples):
        x = self.second(torch.relu(self.first(self.embed(samples).transpose(1, 2))))
        total = 0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.out(torch.relu(total))


def build():
    return WaveNet()


def inputs():
    return torch.randint(32, (2, 24))
