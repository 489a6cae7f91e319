"""Dropouts of several tasks stand in a plain list, which eval() does not walk through."""

import torch
from torch import nn

REPORT = "https://github.com/namisan/mt-dnn/issues/45"
RULES = ("DK101",)


class MultiTask(nn.Module):
    def __init__(self, tasks=2, width=64):
        super().__init__()
        self.encoder = nn.Linear(width, width)
        self.scoring_list = nn.ModuleList(nn.Linear(width, 3) for _ in range(tasks))
        self.dropout_list = [nn.Dropout(0.1) for _ in range(tasks)]

    def forward(self, x):
        pooled = torch.tanh(self.encoder(x))
        outputs = []
        for drop, score in zip(self.dropout_list, self.scoring_list, strict=True):
            outputs.append(score(drop(pooled)))  # <- DK101
        return torch.stack(outputs, 1)


def build():
    return MultiTask()


def inputs():
    return torch.randn(8, 64)
