"""The transformer of PyTorch, encoder and decoder."""

import torch
from torch import nn

REPORT = "Vaswani et al., Attention Is All You Need, 2017"
RULES = ()


class Translator(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.given, self.made, self.drop, self.words = (
            nn.Embedding(60, dim), nn.Embedding(60, dim),
            nn.Dropout(0.1), nn.Linear(dim, 60))
        self.transformer = nn.Transformer(dim, 4, 1, 1, 128, dropout=0.1, batch_first=True)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.words(self.transformer(self.drop(self.given(source)), self.drop(self.made(target)), tgt_mask=mask))


def build():
    return Translator()


def inputs():
    return (torch.randint(60, (2, 7)), torch.randint(60, (2, 5)))
