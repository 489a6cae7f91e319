"""The dropped output of a layer is stored under a name that the next layer does not read."""

import torch
from torch import nn

REPORT = "https://github.com/jihunchoi/recurrent-batch-normalization-pytorch/issues/13"
RULES = ("DK207",)


class Stacked(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.first, self.second = nn.GRU(dim, dim, batch_first=True), nn.GRU(dim, dim, batch_first=True)
        self.dropout_layer, self.head = nn.Dropout(0.2), nn.Linear(dim, 3)

    def forward(self, input_):
        layer_output = self.first(input_)[0]
        input_ = self.dropout_layer(layer_output)  # <- DK207
        layer_output = self.second(layer_output)[0]
        return self.head(layer_output[:, -1])


def build():
    return Stacked()


def inputs():
    return torch.randn(4, 6, 32)
