"""DK205: dropout in the earliest convolutions."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, CONVOLUTIONS, ELEMENTWISE, NORMS, PLAIN, POOLS, VIEWS, graph, label, source
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule

_SAME_MAP = (PLAIN | NORMS | POOLS) - {"transpose", "permute", "swapaxes", "t", "get"}  # which make tokens of a map


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    convolutions = [op for op in known.ops if op.name in CONVOLUTIONS and op.parameters]
    rebuilt = {op.shape for op in known.outputs() or ()}
    for site in known.sites(ELEMENTWISE | CHANNELS):
        before = sum(known.above(op, site.op) for op in convolutions)
        after = sum(known.above(site.op, op) for op in convolutions)
        first, layer = source(site.op, VIEWS), source(site.op, _SAME_MAP)
        # A network that is to give back what it was given may be trained on purpose to make up for what is missing.
        given = before == 0 and first is not None and first.name == "input" and first.shape not in rebuilt
        early = before == 1 and layer in convolutions
        if after < 3 or len(site.op.shape) < 3 or known.bypassed(site.op) or not (early or given):
            continue
        what = "the input of" if given else "after the first of"
        yield RULE.finding(f"{label(site)} (p={site.p:g}) drops {what} {before + after} convolutions", site.op.place,
                           subject=site.name.rpartition(":")[2], evidence={"p": site.p, "after": after})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.ModuleList([nn.Conv2d(3, 8, 3)] + [nn.Conv2d(8, 8, 3) for _ in range(3)])
        self.drop = nn.Dropout2d(0.2)
    def forward(self, x):
        x = self.c[1](self.drop(F.relu(self.c[0](x))))
        x = self.c[3](F.relu(self.c[2](F.relu(x)))).mean((2, 3))
        return x
def build():
    return Net()
def inputs():
    return torch.randn(2, 3, 16, 16)
"""
RULE = Rule(
    "DK205", "Dropout acts in the earliest convolutions",
    "The first filters are few, general and shared by all that follows. They hardly overfit, and what is dropped "
    "there is missing everywhere.",
    "Move the dropout to the later layers, or let the rate grow with depth. Wide networks take it best near the "
    "classifier.",
    "note", "low", _BAD,
    _BAD.replace("self.c[1](self.drop(F.relu(self.c[0](x))))", "self.c[1](F.relu(self.c[0](x)))")
    .replace("F.relu(self.c[2](F.relu(x)))", "self.drop(F.relu(self.c[2](F.relu(x))))"),
    ("Sungheon Park and Nojun Kwak, Analysis on the Dropout Effect in Convolutional Neural Networks, 2016",
     "Nitish Srivastava et al., Dropout, 2014, section 7 (rates of the convolutional networks)",), _check)
