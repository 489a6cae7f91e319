"""DK102: an evaluation that changes a rate or a mode for good."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.observation import AGAIN, TRAIN, Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    if seen.ran(TRAIN) is None or seen.ran(AGAIN) is None:
        return
    later = {site.name: site for site in seen.site_calls(AGAIN)}
    for name, first in {site.name: site for site in seen.site_calls(TRAIN)}.items():
        now = later.get(name)
        if first.active and (now is None or not now.active or now.p != first.p):
            rate = now.p if now is not None and now.active else 0.0
            yield RULE.finding(f"{name} drops at rate {first.p:g} before an evaluation and at {rate:g} in training after it",
                               first.op.place, subject=name, evidence={"before": first.p, "after": rate})


_BAD = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        if not self.training:
            self.drop.p = 0.0
        return self.drop(x)
def build():
    return Net()
def inputs():
    return torch.ones(8, 16)
"""
RULE = Rule(
    "DK102", "An evaluation changes a rate or a mode for good",
    "After the first evaluation the network trains on without dropout, or at another rate, and nothing tells.",
    "Leave rates alone and let eval() and train() switch the mode. Where rates must change, put them back.",
    "error", "high", _BAD, _BAD.replace("        if not self.training:\n            self.drop.p = 0.0\n", ""),
    ("github.com/NVIDIA/Megatron-LM, issue 411",), _check)
