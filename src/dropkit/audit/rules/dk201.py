"""DK201: dropout before batch normalisation."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import PATHS, graph, label, sinks
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites():
        norm = next((op for op in sinks(site.op) if op.name == "batch_norm"), None)
        if norm is None or (known.bypassed(site.op) and site.kind in PATHS):
            continue
        measured = seen.batch_norm_inputs.get(norm.module)
        shift = 1 / (1 - site.p) if site.p < 1 else float("inf")
        evidence = {"p": site.p, "theory_zero_mean": shift}
        told = f"up to {shift:.2f} times"
        if measured is not None:
            ratio = float((measured[0] / measured[1].clamp_min(1e-12)).median())
            evidence["measured"], told = ratio, f"{ratio:.2f} times (measured, the median over channels)"
        yield RULE.finding(f"{label(site)} (p={site.p:g}) feeds {norm.module or 'batch_norm'}, whose input has in training "
                           f"{told} the variance that it has in evaluation",
                           site.op.place, subject=norm.module, evidence=evidence)


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.norm = nn.Linear(16, 32), nn.Dropout(0.5), nn.BatchNorm1d(32)
        self.last = nn.Linear(32, 4)
    def forward(self, x):
        return self.last(F.relu(self.norm(self.drop(self.first(x)))))
def build():
    return Net()
def inputs():
    return torch.randn(64, 16)
"""
RULE = Rule(
    "DK201", "Dropout stands directly before BatchNorm",
    "In training the dropped values have a larger variance than in evaluation, by the factor 1 + p/q E[x²]/Var[x] "
    "with q = 1 - p. BatchNorm keeps the variance of training, so in evaluation its output is too small.",
    "Move the dropout behind the BatchNorm and its activation. In a network of batch normalisation alone, a dropout "
    "before the last linear layer is usually enough.",
    "warning", "high", _BAD, _BAD.replace("self.norm(self.drop(self.first(x)))", "self.drop(self.norm(self.first(x)))"),
    ("Xiang Li et al., Understanding the Disharmony between Dropout and Batch Normalization by Variance Shift, 2019 "
     "(arXiv 1801.05134)",
     "github.com/luigibonati/mlcolvar, pull request 205",
     "github.com/pytorch/pytorch, issue 3869",), _check)
