"""The narrow code between encoder and decoder is dropped as if it were a wide layer."""

import torch
from torch import nn

REPORT = "No report found; width over rate: Srivastava et al., Dropout, JMLR 2014, appendix A"
RULES = ("DK209",)


class AutoEncoder(nn.Module):
    def __init__(self, code=3):
        super().__init__()
        self.encode, self.squeeze, self.widen, self.decode = (
            nn.Linear(48, 64), nn.Linear(64, code), nn.Linear(code, 64), nn.Linear(64, 48))
        self.drop = nn.Dropout(0.4)

    def forward(self, x):
        code = torch.tanh(self.squeeze(torch.relu(self.encode(x))))
        code = self.drop(code)  # <- DK209
        return self.decode(torch.relu(self.widen(code)))


def build():
    return AutoEncoder()


def inputs():
    return torch.randn(16, 48)
