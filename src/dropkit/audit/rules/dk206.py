"""DK206: sites in series."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, PATHS, each, graph, label, source
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in each(known.sites(ELEMENTWISE | CHANNELS | PATHS)):
        before = source(site.op)
        first = None if before is None else before.site
        if first is not None and first.kind == site.kind and first.active and first.p > 0:
            both = 1 - (1 - site.p) * (1 - first.p)
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops what {label(first)} (p={first.p:g}) has dropped: "
                               f"together {both:.3g}",
                               site.op.place, subject=site.name.rpartition(":")[2], evidence={"p": both})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.2))
        self.after, self.last = nn.Dropout(0.3), nn.Linear(32, 4)
    def forward(self, x):
        return self.last(self.after(self.inner(x)))
def build():
    return Net()
def inputs():
    return torch.randn(8, 16)
"""
RULE = Rule(
    "DK206", "Several sites in series with nothing between",
    "Two masks in a row act as one of rate 1 - (1 - p)(1 - r), which is more than either number says, and nobody "
    "meant it.",
    "Remove one of the two. Set its rate to the one that is meant.",
    "warning", "high", _BAD, _BAD.replace("self.after(self.inner(", "(self.inner("),
    ("github.com/nicklashansen/dreamer4, issue 8",
     "github.com/TimDettmers/ConvE, issue 19",
     "github.com/rasbt/LLMs-from-scratch, pull request 105",
     "github.com/nyu-mll/jiant, issue 249",), _check)
