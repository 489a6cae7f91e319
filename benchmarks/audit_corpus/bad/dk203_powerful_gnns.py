"""A graph network sums predictions of its layers after dropping each of them."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/weihua916/powerful-gnns/issues/16"
RULES = ("DK203",)


class GraphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.predict0, self.predict1 = nn.Linear(32, 64), nn.Linear(32, 5), nn.Linear(64, 5)

    def forward(self, x, adjacency):
        hidden = torch.relu(self.layer(adjacency @ x))
        score = F.dropout(self.predict0(x), 0.5, training=self.training)  # <- DK203
        return score + F.dropout(self.predict1(hidden), 0.5, training=self.training)  # <- DK203


def build():
    return GraphNet()


def inputs():
    return (torch.randn(10, 32), torch.ones(10, 10) / 10)
