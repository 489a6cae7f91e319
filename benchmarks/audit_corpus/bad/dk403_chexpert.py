"""A rate of 0.9 in front of the classifier, meant as the share to keep."""

import torch
from torch import nn

REPORT = "https://github.com/Gofinge/CheXpert_Baseline_PyTorch/issues/5"
RULES = ("DK403",)
ALSO = ("DK301",)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.drop, self.fc = (
            nn.Conv2d(3, 32, 3), nn.Conv2d(32, 128, 3), nn.Dropout(0.9), nn.Linear(128, 5))

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean((2, 3))
        return self.fc(self.drop(x))  # <- DK403


def build():
    return Classifier()


def inputs():
    return torch.randn(4, 3, 12, 12)
