"""DK303: a new mask on the recurrent state at each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dropkit.audit.finding import Finding
from dropkit.audit.graph import ACTIVATIONS, ADDS, ELEMENTWISE, JOINS, LAYERS, NORMS, VIEWS, Graph, graph, label
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule

CELLS = frozenset(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"))
SLICES = frozenset(("unbind", "split", "chunk"))  # one operation that gives the inputs of many steps
_VALUE_BY_VALUE = VIEWS | ACTIVATIONS | ADDS | NORMS | {"mul", "imul", "sub", "isub", "rsub", "lerp", "where"}


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites(ELEMENTWISE):
        cell = _cell(known, site)
        if cell is not None:
            name = site.name.rpartition("#")[0] or site.name
            yield RULE.finding(f"{label(site)} (p={site.p:g}) draws a new mask on the state of {cell.module or cell.name} at "
                               "each step", site.op.place, subject=name.rpartition(":")[2], evidence={"p": site.p})


def _cell(known: Graph, site: SiteCall) -> Op | None:
    """The cell whose state a site drops between two of its steps, or None.

    A cell is one of torch's, or a layer which a result of its own comes back to through nothing but operations of single
    values, joined on the way by something new: without an input at each step it is a deep network that shares its weights.
    """
    earlier = list(_before(site.op))
    made = {(op.name, op.parameters): op for op in earlier if op.parameters and op.name in CELLS | LAYERS}
    for later in _after(site.op):
        first = made.get((later.name, later.parameters))
        if first is not None and (first.name in CELLS or _joined(known, first, later)):
            return first
    return None


def _before(op: Op) -> Iterator[Op]:
    """What a result is made of by operations of single values: the operations above these."""
    return _walked(op, lambda op: op.parents, _VALUE_BY_VALUE)


def _after(op: Op) -> Iterator[Op]:
    """What takes a result, also as a part of a sum or a joined tensor."""
    return _walked(op, lambda op: op.users, _VALUE_BY_VALUE | JOINS)


def _walked(op: Op, step: Callable[[Op], Iterable[Op]], through: frozenset[str]) -> Iterator[Op]:
    to_do, told = list(step(op)), {op}
    while to_do:
        now = to_do.pop()
        if now in told:
            continue
        told.add(now)
        if now.name in through and now.site is None:
            to_do += step(now)
        else:
            yield now


def _joined(known: Graph, first: Op, later: Op) -> bool:
    """Whether each step brings in something of the model's inputs that the step before did not have.

    Told from a third call of the layer on: what all steps share is new to the first of them.
    """
    if not any(_same(op, first) and known.above(op, first) for op in known.ops[:first.index]):
        return False
    given = known.ops[0]
    for op in known.ops[first.index + 1:later.index + 1]:
        if op is later or (known.above(first, op) and known.above(op, later)):
            new = [parent for parent in op.parents if parent is not first and not known.above(first, parent)]
            if any(known.above(given, parent) and (parent.name in SLICES or not known.above(parent, first)) for parent in new):
                return True
    return False


def _same(op: Op, other: Op) -> bool:
    return op.name == other.name and op.parameters == other.parameters


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
