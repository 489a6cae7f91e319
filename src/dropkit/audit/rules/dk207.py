"""DK207: a result that nobody uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dropkit.audit.finding import Finding, Place
from dropkit.audit.graph import LAYERS, Graph, ends, graph, label, sinks
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    outputs = None if known is None else known.outputs()
    if known is None or not outputs:
        return
    for site in _in_vain(known, outputs):
        yield RULE.finding(f"The result of {label(site)} (p={site.p:g}) is not used", site.op.place,
                           subject=site.name.rpartition(":")[2], evidence={"p": site.p})
    reached = seen.gradients or set()
    for op in known.ops if reached else ():
        if op.parameters and op.name in LAYERS and not set(op.parameters) & reached and _unused(op, outputs):
            yield RULE.finding(f"The result of {op.module or op.name} is not used: its parameters get no "
                               f"gradient", op.place,
                               subject=op.name, severity="warning")


def _in_vain(known: Graph, outputs: set[Op]) -> Iterator[SiteCall]:
    """A call of each line on which a site never does anything: what the last step of a loop leaves over is no mistake."""
    calls: dict[tuple[str, Place], list[SiteCall]] = {}
    for site in known.sites():
        calls.setdefault((site.name.partition("#")[0], site.op.place), []).append(site)
    yield from (line[0] for line in calls.values() if all(_unused(site.op, outputs) for site in line))


def _unused(op: Op, outputs: set[Op]) -> bool:
    """Whether a result goes nowhere, but for views and activations of it."""
    last = list(ends(op))
    return bool(last) and not list(sinks(op)) and not any(end in outputs for end in last)


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
