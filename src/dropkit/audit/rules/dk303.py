"""DK303: a new mask on the recurrent state at each step."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import ELEMENTWISE, VIEWS, graph, sinks, source
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule

CELLS = frozenset(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"))


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    told: set[str] = set()
    for site in known.sites(ELEMENTWISE):
        before, name = source(site.op, VIEWS), site.name.rpartition("#")[0] or site.name
        if before is None or before.name not in CELLS or name in told:
            continue
        if any(op.name == before.name and op.parameters == before.parameters for op in sinks(site.op, VIEWS)):
            told.add(name)
            yield RULE.finding(f"{name or '(model)'} (p={site.p:g}) draws a new mask on the state of "
                               f"{before.module or before.name} at each "
                               "step", site.op.place, subject=name.rpartition(":")[2], evidence={"p": site.p})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.drop, self.last = nn.GRUCell(8, 16), nn.Dropout(0.2), nn.Linear(16, 2)
    def forward(self, x):
        state = torch.zeros(x.shape[1], 16)
        for t in range(len(x)):
            state = self.cell(x[t], self.drop(state))
        return self.last(state)
def build():
    return Net()
def inputs():
    return torch.randn(5, 3, 8)
"""
RULE = Rule(
    "DK303", "A new mask acts on the recurrent state at each step",
    "After t steps a unit of the state has survived with probability (1 - p)^t only, so memory is lost with time "
    "and noise adds up.",
    "Use one mask for the whole sequence, or drop inputs and outputs of the cell alone. See dropkit.nn for "
    "variational recurrent dropout and zoneout.",
    "warning", "medium", _BAD,
    _BAD.replace("state = self.cell(x[t], self.drop(state))", "state = self.cell(self.drop(x[t]), state)"),
    ("Yarin Gal and Zoubin Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks, 2016",
     "Wojciech Zaremba et al., Recurrent Neural Network Regularization, 2014",
     "David Krueger et al., Zoneout, 2017",), _check)
