"""Graph attention with the high rates of its publication, on features and on attention."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "https://github.com/pyg-team/pytorch_geometric/issues/338"
# See also Veličković et al., Graph Attention Networks, 2018
RULES = ()


class Attention(nn.Module):
    def __init__(self, given, made, rate=0.6):
        super().__init__()
        self.project, self.source, self.target, self.rate = nn.Linear(given, made), nn.Linear(made, 1), nn.Linear(made, 1), rate

    def forward(self, x, edges):
        x = self.project(F.dropout(x, self.rate, self.training))
        scores = F.leaky_relu(self.source(x) + self.target(x).mT, 0.2).masked_fill(~edges, -1e9)
        return F.dropout(torch.softmax(scores, -1), self.rate, self.training) @ x


class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(128, 64), Attention(64, 7)

    def forward(self, x, edges):
        return self.second(F.elu(self.first(x, edges)), edges)


def build():
    return GAT()


def inputs():
    return (torch.randn(12, 128), torch.ones(12, 12).tril().bool())
