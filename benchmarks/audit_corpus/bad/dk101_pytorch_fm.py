"""An attentional factorisation machine drops its attention scores whatever the mode."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/rixwew/pytorch-fm/issues/21"
RULES = ("DK101",)


class AttentionalFM(nn.Module):
    def __init__(self, values=50, dim=32):
        super().__init__()
        self.embed, self.attend, self.score, self.head = (
            nn.Embedding(values, dim), nn.Linear(dim, dim), nn.Linear(dim, 1), nn.Linear(dim, 1))

    def forward(self, fields):
        x = self.embed(fields)
        first, second = torch.triu_indices(x.shape[1], x.shape[1], 1)
        pairs = x[:, first] * x[:, second]
        scores = torch.softmax(self.score(torch.relu(self.attend(pairs))), 1)
        scores = F.dropout(scores, p=0.1)  # <- DK101
        return self.head((scores * pairs).sum(1))


def build():
    return AttentionalFM()


def inputs():
    return torch.randint(50, (8, 4))
