"""Embeddings of users and items through a perceptron with dropout between its layers."""

import torch
from torch import nn

REPORT = "He et al., Neural Collaborative Filtering, 2017"
RULES = ()


class Recommender(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.users, self.items = nn.Embedding(50, dim), nn.Embedding(80, dim)
        self.first, self.second, self.score, self.drop = (
            nn.Linear(2 * dim, 128), nn.Linear(128, 64),
            nn.Linear(64, 1), nn.Dropout(0.2))

    def forward(self, user, item):
        x = torch.cat((self.users(user), self.items(item)), -1)
        x = self.drop(torch.relu(self.first(x)))
        x = self.drop(torch.relu(self.second(x)))
        return torch.sigmoid(self.score(x)).squeeze(-1)


def build():
    return Recommender()


def inputs():
    return {"user": torch.randint(50, (8,)), "item": torch.randint(80, (8,))}
