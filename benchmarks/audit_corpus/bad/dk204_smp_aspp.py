"""A segmentation decoder ends with element-wise dropout of one half on its feature map."""

import torch
from torch import nn

REPORT = "https://github.com/qubvel-org/segmentation_models.pytorch/issues/955"
RULES = ("DK204",)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.body, self.project = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 1, bias=False))
        self.norm, self.drop, self.head = nn.BatchNorm2d(64), nn.Dropout(0.5), nn.Conv2d(64, 4, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.body(torch.relu(self.stem(x))))
        x = torch.relu(self.norm(self.project(x)))
        return self.head(self.drop(x))  # <- DK204


def build():
    return Decoder()


def inputs():
    return torch.randn(4, 3, 8, 8)
