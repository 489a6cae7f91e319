"""A GAN step: dropout of whole channels in the discriminator, between its convolutions, and none in the generator."""

import torch
from torch import nn

REPORT = "Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen: Improved Techniques for Training GANs, 2016"
RULES = ()


class Discriminator(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in ((3, 32), (32, 64), (64, 64)))
        self.drop, self.act, self.head = nn.Dropout2d(rate), nn.LeakyReLU(0.2), nn.Linear(64, 1)

    def forward(self, x):
        for index, convolution in enumerate(self.convolutions):
            x = self.act(convolution(x))
            if index == 1:
                x = self.drop(x)
        return self.head(x.mean((2, 3)))


class Pair(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.generator = nn.Sequential(nn.ConvTranspose2d(16, 32, 4), nn.BatchNorm2d(32), nn.ReLU(),
                                       nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1), nn.Tanh())
        self.discriminator = Discriminator(dropout)

    def forward(self, noise):
        return self.discriminator(self.generator(noise))


def build(dropout=0.2):
    return Pair(dropout)


def inputs():
    return torch.randn(4, 16, 1, 1)
