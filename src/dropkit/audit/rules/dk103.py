"""DK103: outputs in evaluation that differ between runs though no known site is active."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import EVAL, Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    found = seen.ran(EVAL)
    if found is None or not found.varies or any(site.active for site in found.sites):
        return
    named = found.opaque[0].operator if found.opaque else "an unknown source"
    yield RULE.finding(f"outputs in evaluation differ between two seeds, from {named}",
                       found.opaque[0].place if found.opaque else Place(""), evidence={"operator": named})


_BAD = """import torch
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 0.5))
def build():
    return Net()
def inputs():
    return torch.ones(8, 16)
"""
RULE = Rule(
    "DK103", "Outputs in evaluation differ between runs though no known site is active",
    "Something draws random numbers in evaluation that is no known dropout, so that predictions cannot be repeated.",
    "Draw only if self.training. Where it is meant, say so in a comment.", "warning", "medium", _BAD,
    _BAD.replace("        return x *", "        return x if not self.training else x *"),
    ("PyTorch documentation, torch.nn.Module.eval: it sets a flag, which only modules that ask for it heed",), _check)
