"""Patches are masked at random in every mode, so that features differ from run to run after eval()."""

import torch
from torch import nn

REPORT = "https://github.com/huggingface/transformers/issues/20431"
RULES = ("DK103",)


class MaskedEncoder(nn.Module):
    def __init__(self, dim=48, kept=8):
        super().__init__()
        self.kept = kept
        self.embed, self.mix = nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, patches):
        x = self.embed(patches)
        noise = torch.rand(x.shape[:2], device=x.device)  # <- DK103
        order = noise.argsort(1)[:, :self.kept]
        x = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return self.mix(torch.relu(x))


def build():
    return MaskedEncoder()


def inputs():
    return torch.randn(2, 16, 48)
