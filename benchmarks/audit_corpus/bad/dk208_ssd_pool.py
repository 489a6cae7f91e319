"""Values are dropped before the later pooling layer of a detector."""

import torch
from torch import nn

REPORT = "https://github.com/rykov8/ssd_keras/issues/70"
RULES = ("DK208",)
ALSO = ("DK204", "DK205")


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1),
            nn.Conv2d(64, 64, 3, padding=1))
        self.drop, self.pool, self.boxes = nn.Dropout(0.2), nn.MaxPool2d(2), nn.Conv2d(64, 24, 1)

    def forward(self, x):
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = torch.relu(self.conv3(self.pool(x)))
        x = self.pool(self.drop(torch.relu(self.conv4(x))))  # <- DK208
        return self.boxes(x)


def build():
    return Body()


def inputs():
    return torch.randn(2, 3, 16, 16)
