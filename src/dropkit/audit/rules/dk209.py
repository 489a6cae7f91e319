"""DK209: a layer too narrow for its rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import TRAIN, Observation
from dropkit.audit.rule import Rule

_LIKELY = 1e-3  # that all units of an example drop


def check(seen: Observation) -> Iterator[Finding]:
    """Find element-wise sites on a last dimension so small that all of it drops now and then."""
    told: set[str] = set()
    for site in seen.site_calls(TRAIN):
        known = site.kind in ("dropout", "alpha_dropout") and site.op.site is site
        if not known or site.name in told or len(site.op.shape) < 2:
            continue
        units = site.op.shape[-1] if len(site.op.shape) < 4 else 0  # feature maps have their channels elsewhere
        if units < 1 or not 0 < site.p < 1:
            continue
        chance = site.p ** units
        if chance > _LIKELY:
            told.add(site.name)
            yield RULE.finding(
                f"all {units} units at {site.name!r} drop together with probability {chance:.2g}, at rate {site.p:g}",
                replace(site.place, module=site.name.partition(":")[0]),
                evidence={"probability": chance, "units": units, "p": site.p})


RULE = Rule(
    id="DK209",
    title="a layer is too narrow for its rate",
    why="All n units of a layer drop together with probability p^n. Where that happens every thousand "
        "examples or more often, the examples carry nothing on, and what is behind the layer learns from "
        "noise.",
    fix="Lower the rate, or widen the layer.",
    severity="warning",
    confidence="medium",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(8, 4), nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(self.drop(self.first(x).relu()))  # here


def build():
    return Net()


def inputs():
    return torch.ones(4, 8)
""",
    good="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 2)

    def forward(self, x):
        return self.second(self.drop(self.first(x).relu()))


def build():
    return Net()


def inputs():
    return torch.ones(4, 8)
""",
    references=("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: \"Dropout: a simple way to prevent neural networks "
                "from overfitting\", JMLR 2014, on the number of units that a rate leaves.",),
    check=check)
