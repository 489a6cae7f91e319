"""Dropout of one half before both wide layers of the classifier."""

import torch
from torch import nn

REPORT = "Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012"
RULES = ()


class AlexNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(2),
                                      nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(4))
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(256, 256), nn.ReLU(inplace=True), nn.Dropout(0.5),
                                        nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Linear(128, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def build():
    return AlexNet()


def inputs():
    return torch.randn(2, 3, 16, 16)
