"""DK206: several sites in series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import TRAIN, Observation, Op
from dropkit.audit.rule import Rule

_PASSING = frozenset(("view", "reshape", "flatten", "unflatten", "transpose", "permute", "contiguous", "squeeze", "unsqueeze",
                      "clone", "to", "identity"))


def check(seen: Observation) -> Iterator[Finding]:
    """Find a site whose input comes from another, with nothing but a change of shape between them."""
    run = seen.ran(TRAIN)
    for op in [] if run is None else run.ops:
        first = _site_behind(op)
        if op.site is None or first is None or first.site is None or not (op.site.active and first.site.active):
            continue
        if "attention" in (op.site.kind, first.site.kind) or "recurrent" in (op.site.kind, first.site.kind):
            continue  # these do far more than drop
        total = 1 - (1 - op.site.p) * (1 - first.site.p)
        yield RULE.finding(
            f"the dropout {first.site.name!r} at rate {first.site.p:g} goes straight into {op.site.name!r} at rate "
            f"{op.site.p:g}; together they drop {total:.0%}", replace(op.place, module=op.site.name.partition(":")[0]),
            subject=first.site.name, evidence={"p": total})


def _site_behind(op: Op) -> Op | None:
    found = op.parents[0] if len(op.parents) == 1 else None
    while found is not None and found.site is None and found.name in _PASSING:
        found = found.parents[0] if len(found.parents) == 1 else None
    return None if found is None or found.site is None else found


RULE = Rule(
    id="DK206",
    title="dropout goes straight into dropout",
    why="Two sites in series with nothing between act as one at the rate `1 - (1 - p)(1 - r)`, which nobody "
        "has written down. Most often a block ends with dropout and the next one begins with it.",
    fix="Remove one of them, and give the other the rate that is meant.",
    severity="warning",
    confidence="high",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5))
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, 2)

    def forward(self, x):
        x = self.block(x)
        return self.head(self.drop(x))  # here


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    good="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU())
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(64, 2)

    def forward(self, x):
        x = self.block(x)
        return self.head(self.drop(x))


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    references=("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: \"Dropout: a simple way to prevent neural networks "
                "from overfitting\", JMLR 2014: one rate a layer.",),
    check=check)
