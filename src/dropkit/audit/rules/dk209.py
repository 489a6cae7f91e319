"""DK209: a layer too narrow for its rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, CONVOLUTIONS, ELEMENTWISE, SOFTMAX, each, graph, label, source
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in each(known.sites(ELEMENTWISE | CHANNELS)):
        layer = source(site.op)
        if site.p >= 1 or layer is None or layer.name in SOFTMAX or len(site.op.shape) < 2:
            continue  # weights of attention are as many as the sequence is long
        channels = site.kind in CHANNELS or layer.name in CONVOLUTIONS
        shape = site.op.shape
        n = (shape[1] if site.kind in CHANNELS else math.prod(shape[1:])) if channels else shape[-1]
        none, few = site.p ** n, site.p ** n + n * site.p ** (n - 1) * (1 - site.p)
        if few >= 0.01:
            yield RULE.finding(f"{label(site)} (p={site.p:g}) on {n} units drops all of them with probability {none:.2g} "
                               f"and all but one "
                               f"or more with {few:.2g}", site.op.place, subject=site.name.rpartition(":")[2],
                               evidence={"p": site.p, "units": n, "all": none, "all_but_one": few})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(16, 4), nn.Linear(4, 2), nn.Dropout(0.5)
    def forward(self, x):
        return self.last(self.drop(F.relu(self.first(x))))
def build():
    return Net()
def inputs():
    return torch.randn(8, 16)
"""
RULE = Rule(
    "DK209", "The layer is too narrow for its rate",
    "With n units all of them drop with probability p^n, and all but one with n p^(n-1) q. Such samples carry no "
    "signal and their neighbours one that is scaled up by 1/q.",
    "Lower the rate or widen the layer.",
    "warning", "high", _BAD,
    _BAD.replace("16, 4", "16, 64")
    .replace("(4, 2)", "(64, 2)"),
    ("Nitish Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 2014, section 7.3 "
     "(width times keep rate)",), _check)
