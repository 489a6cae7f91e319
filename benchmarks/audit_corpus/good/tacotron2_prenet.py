"""The prenet of Tacotron 2 drops in evaluation too, by design: its variation makes speech natural."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/NVIDIA/tacotron2/issues/247"
# See also https://github.com/BogiHsu/Tacotron2-PyTorch/issues/8
RULES = ()
ALLOWS = ("DK101",)


class Prenet(nn.Module):
    def __init__(self, mels=80, width=256):
        super().__init__()
        self.first, self.second = nn.Linear(mels, width), nn.Linear(width, width)

    def forward(self, x):
        x = F.dropout(torch.relu(self.first(x)), 0.5, training=True)  # dropkit: allow DK101 (the prenet of Tacotron 2)
        return F.dropout(torch.relu(self.second(x)), 0.5, training=True)  # dropkit: allow DK101 (the prenet of Tacotron 2)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.prenet, self.rnn, self.project = Prenet(), nn.GRU(256, 128, batch_first=True), nn.Linear(128, 80)

    def forward(self, frames):
        return self.project(self.rnn(self.prenet(frames))[0])


def build():
    return Decoder()


def inputs():
    return torch.randn(4, 6, 80)
