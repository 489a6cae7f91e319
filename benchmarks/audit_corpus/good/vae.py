"""A variational auto-encoder samples in training and uses the mean in evaluation."""

import torch
from torch import nn

REPORT = "Kingma and Welling, Auto-Encoding Variational Bayes, 2014"
RULES = ()


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.drop, self.mean, self.log_variance = (
            nn.Linear(48, 128), nn.Dropout(0.1),
            nn.Linear(128, 16), nn.Linear(128, 16))
        self.widen, self.decode = nn.Linear(16, 128), nn.Linear(128, 48)

    def forward(self, x):
        hidden = self.drop(torch.relu(self.encode(x)))
        code, log_variance = self.mean(hidden), self.log_variance(hidden)
        if self.training:
            code = code + torch.randn_like(code) * (0.5 * log_variance).exp()
        return self.decode(torch.relu(self.widen(code))), log_variance


def build():
    return VAE()


def inputs():
    return torch.randn(16, 48)
