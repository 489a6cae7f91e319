"""DK209: a layer too narrow for its rate."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, CONVOLUTIONS, ELEMENTWISE, LAYERS, SOFTMAX, graph, label, source
from dropkit.audit.graph_output import Predictions
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    predictions = Predictions(seen, known)
    for site in known.sites(ELEMENTWISE | CHANNELS):
        before = source(site.op)
        if site.p >= 1 or before is None or before.name in SOFTMAX or len(site.op.shape) < 2:
            continue  # weights of attention are as many as the sequence is long
        n = _units(site)
        none, few = site.p ** n, site.p ** n + n * site.p ** (n - 1) * (1 - site.p)
        if few >= 0.01 and predictions.dropped_by(site) is None:  # else its width is not what is wrong: DK203
            yield RULE.finding(f"{label(site)} (p={site.p:g}) on {n} units drops all of them with probability {none:.2g} "
                               f"and all but one "
                               f"or more with {few:.2g}", site.op.place, subject=site.name.rpartition(":")[2],
                               evidence={"p": site.p, "units": n, "all": none, "all_but_one": few})


def _units(site: SiteCall) -> int:
    """How many values of an example, or of a token, are dropped each for itself."""
    shape = site.op.shape
    if site.kind in CHANNELS:
        return shape[1]
    return math.prod(shape[1:]) if _is_map(site.op) else shape[-1]


def _is_map(op: Op) -> bool:
    """Whether a result is a map of features whose last dimension is a place: the nearest layers above it are convolutions."""
    found: set[str] = set()
    above, told = list(op.parents), set(op.parents)
    while above:
        now = above.pop()
        if now.name in LAYERS:
            found.add(now.name)
        else:
            above += set(now.parents) - told
            told |= set(now.parents)
    return bool(found) and found <= CONVOLUTIONS


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
