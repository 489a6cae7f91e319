"""Channel dropout between convolutions, from the second one on."""

import torch
from torch import nn

REPORT = "https://github.com/david-klindt/NIPS2017/issues/3"
RULES = ("DK205",)
ALSO = ("DK204",)


class Net(nn.Module):
    def __init__(self, rate=0.2):
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = (
            nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3))
        self.drop1, self.drop2, self.fc = nn.Dropout2d(rate), nn.Dropout2d(rate), nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(self.drop1(x)))  # <- DK205
        x = torch.relu(self.conv3(x))
        x = torch.relu(self.conv4(self.drop2(x)))
        return self.fc(x.mean((2, 3)))


def build():
    return Net()


def inputs():
    return torch.randn(4, 3, 12, 12)
