"""DK208: dropout before pooling."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import ELEMENTWISE, MAX_POOLS, each, graph, label, sinks
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in each(known.sites(ELEMENTWISE)):
        for op in sinks(site.op):
            whole = (op.name == "mean" and len(op.shape) == 2) or (op.name == "adaptive_avg_pool2d" and op.shape[2:] == (1, 1))
            if len(site.op.shape) == 4 and (op.name in MAX_POOLS or whole):
                yield RULE.finding(f"{label(site)} (p={site.p:g}) drops single values before {op.name}", site.op.place,
                                   subject=site.name.rpartition(":")[2], evidence={"p": site.p})
                break


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last, self.drop = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Dropout(0.2)
    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.max_pool2d(self.drop(x), 2)
        return self.last(x.amax((2, 3)))
def build():
    return Net()
def inputs():
    return torch.randn(2, 3, 12, 12)
"""
RULE = Rule(
    "DK208", "Element-wise dropout stands before a pooling that undoes it",
    "A maximum picks the largest of the kept and scaled values, so its mean is not that of evaluation. A global "
    "mean averages the mask away. A path mask shared between reused modules is not looked for.",
    "Move the dropout behind the pooling.",
    "note", "medium", _BAD, _BAD.replace("F.max_pool2d(self.drop(x), 2)", "self.drop(F.max_pool2d(x, 2))"),
    ("Haibing Wu and Xiaodong Gu, Towards Dropout Training for Convolutional Neural Networks, 2015 (max-pooling "
     "dropout)",), _check)
