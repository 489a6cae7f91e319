"""Element-wise dropout between the later convolutions of a key-point network."""

import torch
from torch import nn

REPORT = "https://github.com/soheil-mp/Facial-Keypoint-Detection/issues/2"
RULES = ("DK204",)
ALSO = ("DK208",)


class KeyPoints(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 64, 3)
        self.drop, self.pool = nn.Dropout(0.2), nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(64, 64), nn.Linear(64, 20)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.conv3(self.drop(x)))  # <- DK204
        x = x.mean((2, 3))
        return self.fc2(torch.relu(self.fc1(x)))


def build():
    return KeyPoints()


def inputs():
    return torch.randn(4, 1, 16, 16)
