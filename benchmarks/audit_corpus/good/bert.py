"""An encoder with normalisation after each sublayer and a dropped pooled state, as BERT has them."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers, 2019"
RULES = ()


class Layer(nn.Module):
    def __init__(self, dim, rate=0.1):
        super().__init__()
        self.attend, self.drop1, self.norm1 = (
            nn.MultiheadAttention(dim, 4, dropout=rate, batch_first=True), nn.Dropout(rate), nn.LayerNorm(dim))
        self.inner, self.outer, self.drop2, self.norm2 = (
            nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim), nn.Dropout(rate), nn.LayerNorm(dim))

    def forward(self, x):
        x = self.norm1(x + self.drop1(self.attend(x, x, x, need_weights=False)[0]))
        return self.norm2(x + self.drop2(self.outer(F.gelu(self.inner(x)))))


class Bert(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.words, self.places, self.norm, self.drop = (
            nn.Embedding(100, dim), nn.Embedding(16, dim), nn.LayerNorm(dim), nn.Dropout(0.1))
        self.layers, self.pooler, self.pooled_drop, self.classify = (
            nn.ModuleList(Layer(dim) for _ in range(2)), nn.Linear(dim, dim), nn.Dropout(0.1), nn.Linear(dim, 2))

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        x = self.drop(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        return self.classify(self.pooled_drop(torch.tanh(self.pooler(x[:, 0]))))


def build():
    return Bert()


def inputs():
    return torch.randint(100, (2, 8))
