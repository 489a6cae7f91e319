"""DK207: a result that nobody uses."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import LAYERS, each, ends, graph, label, sinks
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    outputs = known.outputs()
    if not outputs:
        return
    reached = seen.gradients or set()
    for site in each(known.sites()):
        last = list(ends(site.op))
        if last and not list(sinks(site.op)) and not any(op in outputs for op in last):
            yield RULE.finding(f"The result of {label(site)} (p={site.p:g}) is not used", site.op.place,
                               subject=site.name.rpartition(":")[2], evidence={"p": site.p})
    for op in known.ops if reached else ():
        if op.parameters and op.name in LAYERS and not set(op.parameters) & reached:
            last = list(ends(op))
            if last and not list(sinks(op)) and not any(end in outputs for end in last):
                yield RULE.finding(f"The result of {op.module or op.name} is not used: its parameters get no "
                                   f"gradient", op.place,
                                   subject=op.name, severity="warning")


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.drop = nn.Linear(16, 32), nn.Linear(32, 4), nn.Dropout(0.2)
    def forward(self, x):
        x = F.relu(self.first(x))
        h = self.drop(x)
        return self.last(x)
def build():
    return Net()
def inputs():
    return torch.randn(8, 16)
"""
RULE = Rule(
    "DK207", "What was dropped goes into a variable that nobody uses",
    "The next layer reads the undropped variable, so the dropout does nothing; where the layer itself is left out, "
    "its parameters are never trained.",
    "Pass on the variable that holds the dropped values.",
    "error", "medium", _BAD, _BAD.replace("self.last(x)", "self.last(h)"),
    ("github.com/kuanghuei/clean-net, issue 2",
     "github.com/ageron/handson-ml, issue 304",), _check)
