"""DK302: arguments that do not do what they say."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from dropkit.audit.finding import Finding, Place
from dropkit.audit.graph import each, graph, label
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule

NEEDS_RESULT = frozenset(("relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt", "elu", "selu"))


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for path, module in seen.modules.items():
        if isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers == 1:
            place = next((op.place for op in known.ops if op.module == path and op.parameters), Place(path))
            yield RULE.finding(f"{path or '(model)'} has one layer: its dropout={module.dropout:g} does "
                               f"nothing", place, subject="layers")
    for site in each(known.sites()):
        before = site.op.parents[0] if len(site.op.parents) == 1 else None
        named = seen.modules.get(site.name)
        inplace = site.op.arguments.get("inplace") or getattr(named, "inplace", False)
        if site.kind == "dropout2d" and len(site.op.shape) == 3:
            yield RULE.finding(f"{label(site)} drops channels in pictures but is given {len(site.op.shape)} "
                               f"dimensions", site.op.place,
                               subject="dimensions")
        if site.p == 1:
            yield RULE.finding(f"{label(site)} has p = 1: in training its output is "
                               f"zero", site.op.place, subject="p", severity="error")
        elif inplace and before is not None and before.name in NEEDS_RESULT:
            yield RULE.finding(f"{label(site)} overwrites the result of {before.name}, which its gradient "
                               f"needs", site.op.place,
                               subject="inplace", severity="error")


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.last = nn.LSTM(8, 16), nn.Sequential(nn.Dropout(1.0), nn.Linear(16, 2))
    def forward(self, x):
        return self.last(self.rnn(x)[0])
def build():
    return Net()
def inputs():
    return torch.randn(5, 3, 8)
"""
RULE = Rule(
    "DK302", "The module's arguments do not do what they say",
    "`nn.LSTM(dropout=p)` drops between layers, so with one layer it does nothing. `nn.Dropout2d` takes three "
    "dimensions for one image without a batch. p = 1 leaves zeros. An in-place dropout overwrites what the "
    "operation before needs for its gradient.",
    "Give the module what it expects: more layers or a dropout of its own, nn.Dropout1d for three dimensions, a "
    "rate below 1, no inplace=True.",
    "warning", "high", _BAD, _BAD.replace("1.0", "0.1"),
    ("github.com/pytorch/pytorch, issue 5985",
     "github.com/pyro-ppl/pyro, issue 1415",), _check)
