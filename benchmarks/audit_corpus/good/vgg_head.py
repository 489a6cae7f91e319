"""Dropout behind both wide layers of the head."""

import torch
import torch.nn.functional as F
from torch import nn

REPORT = "Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015"
RULES = ()


class VGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.fc1, self.fc2, self.fc3, self.drop1, self.drop2 = (
            nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 10), nn.Dropout(0.5), nn.Dropout(0.5))

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv2(torch.relu(self.conv1(x)))), 4).flatten(1)
        x = self.drop1(torch.relu(self.fc1(x)))
        return self.fc3(self.drop2(torch.relu(self.fc2(x))))


def build():
    return VGG()


def inputs():
    return torch.randn(4, 3, 8, 8)
