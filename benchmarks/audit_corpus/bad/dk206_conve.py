"""Embeddings are dropped where they are looked up and again where they are used."""

import torch
from torch import nn

REPORT = "https://github.com/TimDettmers/ConvE/issues/19"
RULES = ("DK206",)


class LinkModel(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.entities, self.relations = nn.Embedding(40, dim), nn.Embedding(10, dim)
        self.input_drop, self.hidden_drop = nn.Dropout(0.2), nn.Dropout(0.3)
        self.mix, self.fc = nn.Linear(2 * dim, dim), nn.Linear(dim, 40)

    def forward(self, entity, relation):
        entity = self.input_drop(self.entities(entity))  # <- DK206
        relation = self.input_drop(self.relations(relation))  # <- DK206
        stacked = torch.cat((entity, relation), -1)
        stacked = self.input_drop(stacked)  # <- DK206
        return self.fc(self.hidden_drop(torch.relu(self.mix(stacked))))


def build():
    return LinkModel()


def inputs():
    return (torch.randint(40, (8,)), torch.randint(10, (8,)))
