"""Convolutions over words, pooled over time, with dropout on the pooled features."""

import torch
from torch import nn

REPORT = "https://github.com/bentrevett/pytorch-sentiment-analysis/issues/33"
# See also Kim, Convolutional Neural Networks for Sentence Classification, 2014
RULES = ()


class TextCNN(nn.Module):
    def __init__(self, dim=48, filters=32):
        super().__init__()
        self.embed, self.drop, self.fc = nn.Embedding(80, dim), nn.Dropout(0.5), nn.Linear(3 * filters, 2)
        self.convs = nn.ModuleList(nn.Conv1d(dim, filters, width) for width in (3, 4, 5))

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        x = torch.cat([torch.relu(conv(x)).amax(-1) for conv in self.convs], 1)
        return self.fc(self.drop(x))


def build():
    return TextCNN()


def inputs():
    return torch.randint(80, (4, 10))
