"""An encoder and a decoder with attention; dropout on embeddings and before the vocabulary."""

import torch
from torch import nn

REPORT = "Luong et al., Effective Approaches to Attention-based Neural Machine Translation, 2015"
RULES = ()


class Translator(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.given, self.made, self.drop = nn.Embedding(60, width), nn.Embedding(60, width), nn.Dropout(0.2)
        self.encoder, self.decoder = nn.GRU(width, width, batch_first=True), nn.GRU(width, width, batch_first=True)
        self.combine, self.words = nn.Linear(2 * width, width), nn.Linear(width, 60)

    def forward(self, source, target):
        memory, state = self.encoder(self.drop(self.given(source)))
        x, _ = self.decoder(self.drop(self.made(target)), state)
        context = torch.softmax(x @ memory.mT, -1) @ memory
        x = torch.tanh(self.combine(torch.cat((x, context), -1)))
        return self.words(self.drop(x))


def build():
    return Translator()


def inputs():
    return (torch.randint(60, (4, 7)), torch.randint(60, (4, 5)))
