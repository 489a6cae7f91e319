"""DK301: another mean in training than in evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import TRAIN, Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    found = seen.ran(TRAIN)
    if found is None:
        return
    for name, (factor, width) in seen.expectation.items():
        if abs(factor - 1) <= max(width, 0.05):
            continue
        site = next((site for site in found.sites if site.name == name), None)
        inside = [op for op in found.ops if op.module == name]
        place = site.op.place if site is not None else inside[-1].place if inside else Place(name)
        yield RULE.finding(f"The mean output of {name or '(model)'} in training is {factor:.3g} times that in evaluation "
                           f"(99 % interval "
                           f"+-{width:.2g})", place, subject=name, evidence={"factor": factor, "half_width": width})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 4)
    def forward(self, x):
        x = F.relu(self.first(x))
        if self.training:
            mask = (torch.rand_like(x) < 0.6).float()
            x = x * mask
        return self.last(x)
def build():
    return Net()
def inputs():
    return torch.randn(64, 16)
"""
RULE = Rule(
    "DK301", "The expected activation differs between training and evaluation",
    "Inverted dropout divides by the keep rate q = 1 - p, so that the mean stays. A missing scale gives the factor "
    "q, a double one 1/q, the keep rate taken for p gives q/p or p/q. The network then meets other values in "
    "evaluation than it was trained on.",
    "Divide by 1 - p once, in training only.",
    "error", "medium", _BAD, _BAD.replace("x * mask", "x * mask / 0.6"),
    ("github.com/lmjohns3/theanets, pull request 123",
     "github.com/CSTR-Edinburgh/mlpractical, pull request 32",
     "github.com/piergiaj/pytorch-i3d, issue 58",), _check)
