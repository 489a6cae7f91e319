"""DK302: settings under which dropout does nothing, or everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import TRAIN, Observation
from dropkit.audit.rule import Rule


def check(seen: Observation) -> Iterator[Finding]:
    """Look at the arguments of modules, and at the rates and shapes of calls."""
    for path, module in seen.modules.items():
        if isinstance(module, nn.RNNBase) and module.num_layers == 1 and module.dropout > 0:
            yield RULE.finding(f"the rate {module.dropout:g} of {path!r} never acts: it drops between layers, and there is one",
                               Place(path), "Add layers, drop its output yourself, or use dk.nn.VariationalLSTM",
                               subject="layers")
    told: set[str] = set()
    for site in seen.site_calls(TRAIN):
        where = replace(site.place, module=site.name.partition(":")[0])
        if site.p == 1 and site.active and site.name not in told:
            told.add(site.name)
            yield RULE.finding(f"the site {site.name!r} has the rate 1 and drops everything", where,
                               "Pass the probability of dropping, not of keeping", severity="error", subject="rate")
        if site.kind == "dropout2d" and len(site.op.shape) == 3 and site.name not in told:
            told.add(site.name)
            yield RULE.finding(f"the 2-d channel dropout {site.name!r} gets an input of 3 dimensions, {site.op.shape}, whose "
                               "channels are then the first", where,
                               "Use Dropout1d for (N, C, L), or add the dimension that is missing", subject="shape")


RULE = Rule(
    id="DK302",
    title="dropout is set so that it does nothing, everything, or something else",
    why="`nn.LSTM(dropout=)` drops between layers only, so that with one layer it does nothing. A rate of 1 "
        "drops everything, most often because the probability of keeping was passed. `Dropout2d` on three "
        "dimensions takes the first for the channels.",
    fix="Set what is meant: see the finding.",
    severity="warning",
    confidence="high",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop = nn.Conv1d(4, 4, 1), nn.Dropout2d(0.5)

    def forward(self, x):
        return self.drop(self.body(x))  # here


def build():
    return Net()


def inputs():
    return torch.ones(2, 4, 8)
""",
    good="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop = nn.Conv1d(4, 4, 1), nn.Dropout1d(0.5)

    def forward(self, x):
        return self.drop(self.body(x))


def build():
    return Net()


def inputs():
    return torch.ones(2, 4, 8)
""",
    references=("PyTorch documentation, torch.nn.LSTM: dropout acts on the outputs of each layer except the last.",
                "PyTorch documentation, torch.nn.Dropout2d: a 3-D input is treated as (C, H, W)."),
    check=check)
