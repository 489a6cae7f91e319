"""DK206: sites in series."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, JOINS, PATHS, PLAIN, graph, label
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites(ELEMENTWISE | CHANNELS | PATHS):
        earlier = [_dropper(op) for op in site.op.parents]
        first = earlier[0] if len(earlier) == 1 else None
        if first is not None and first.kind == site.kind:
            both = 1 - (1 - site.p) * (1 - first.p)
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops what {label(first)} (p={first.p:g}) has dropped: "
                               f"together {both:.3g}",
                               site.op.place, subject=site.name.rpartition(":")[2], evidence={"p": both})


def _dropper(op: Op) -> SiteCall | None:
    """The site that has dropped all of a result; of the parts of one that is joined, that with the lowest rate."""
    if op.site is not None:
        return op.site if op.site.active and op.site.p > 0 else None
    if op.name not in PLAIN | JOINS or not op.parents or (op.name in PLAIN and len(op.parents) > 1):
        return None
    parts = [_dropper(parent) for parent in op.parents]
    found = [site for site in parts if site is not None]
    return min(found, key=lambda site: site.p) if len(found) == len(parts) else None


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
