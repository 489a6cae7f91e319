"""DK203: dropout on the output."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, graph, label
from dropkit.audit.graph_output import Predictions
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    predictions = Predictions(seen, known)
    for site in known.sites(ELEMENTWISE | CHANNELS):
        layer = predictions.dropped_by(site)
        if layer is not None:
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops the model's output, the result of "
                               f"{layer.module or layer.name}",
                               site.op.place, subject=site.name.rpartition(":")[2], evidence={"p": site.p})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(16, 32), nn.Linear(32, 4), nn.Dropout(0.2)
    def forward(self, x):
        x = F.relu(self.first(x))
        return self.drop(self.last(x))
def build():
    return Net()
def inputs():
    return torch.randn(8, 16)
"""
RULE = Rule(
    "DK203", "Dropout acts on the logits or the regression output",
    "Nothing comes after that could make up for what is dropped: the loss sees zeros in place of predictions, and "
    "logits that are scaled by 1/(1 - p). A model that returns as many features as it is given is not judged: it may be a "
    "block of something larger, such as a branch of a residual stream, where dropout on the result is the rule.",
    "Move the dropout in front of the last layer.",
    "error", "high", _BAD, _BAD.replace("self.drop(self.last(x))", "self.last(self.drop(x))"),
    ("github.com/maddin79/darch, issue 12",
     "github.com/PaddlePaddle/Parakeet, pull request 75 (a change of this kind, taken back)",), _check)
