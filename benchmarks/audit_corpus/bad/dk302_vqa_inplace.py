"""A question-answering classifier drops in place after an activation that needs its output."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/BierOne/bottom-up-attention-vqa/issues/6"
RULES = ("DK302",)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 128)), nn.Linear(128, 10)

    def forward(self, x):
        x = torch.sigmoid(self.inner(x))
        x = F.dropout(x, 0.5, self.training, inplace=True)  # <- DK302
        return self.outer(x)


def build():
    return Classifier()


def inputs():
    return torch.randn(16, 64)
