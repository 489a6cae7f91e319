"""An image classifier drops what its last layer gives."""

import torch
from torch import nn

REPORT = "https://github.com/googledatalab/pydatalab/pull/392"
RULES = ("DK203",)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.final, self.drop = nn.Linear(128, 64), nn.Linear(64, 5), nn.Dropout(0.4)

    def forward(self, features):
        logits = self.final(torch.relu(self.hidden(features)))
        logits = self.drop(logits)  # <- DK203
        return torch.log_softmax(logits, -1)


def build():
    return Head()


def inputs():
    return torch.randn(16, 128)
