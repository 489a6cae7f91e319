"""DK403: an unusual total rate."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, each, graph, label
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    kept: list[float] = []  # of a value on the best path from the input: additions and bypasses save what is dropped
    lowest, where = 1.0, None
    for op in known.ops:
        share = max((kept[parent.index] for parent in op.parents), default=1.0)
        if op.site is not None and op.site.active and op.site.kind in ELEMENTWISE | CHANNELS and op.site.p < 1:
            share *= 1 - op.site.p
            if share < lowest:
                lowest, where = share, op.site
        kept.append(share)
    if where is not None and lowest < 0.05:
        yield RULE.finding(f"From the input to {label(where)} a value survives with probability {lowest:.2g} on every "
                           f"path", where.op.place,
                           subject="path", evidence={"kept": lowest})
    for site in each(known.sites(ELEMENTWISE | CHANNELS)):
        usual = 0.5 if len(site.op.shape) >= 4 else 0.7  # GoogLeNet's side heads drop at 0.7
        if usual < site.p < 1:
            yield RULE.finding(f"{label(site)} drops at p={site.p:g}; above {usual:g} is unusual here", site.op.place,
                               subject=site.name.rpartition(":")[2], evidence={"p": site.p})


_BAD = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[part for _ in range(4) for part in (nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.6))])
        self.last = nn.Linear(64, 2)

    def forward(self, x):
        return self.last(self.layers(x))


def build():
    return Net()


def inputs():
    return torch.randn(8, 64)
"""
RULE = Rule(
    "DK403", "The total rate is unusual",
    "Rates people use: 0 to 0.3 on feature maps, 0 to 0.3 in transformers, 0.2 to 0.5 on wide vectors, up to 0.65 "
    "in recurrent language models, 0.7 in a head that only helps to train. Above that little of the signal is left.",
    "Lower the rates, or keep fewer sites.",
    "note", "low", _BAD, _BAD.replace("0.6", "0.2"),
    ("Nitish Srivastava et al., Dropout, 2014, appendix A.4",
     "Christian Szegedy et al., Going Deeper with Convolutions, 2015",
     "Stephen Merity et al., Regularizing and Optimizing LSTM Language Models, 2018",
     "Ashish Vaswani et al., Attention Is All You Need, 2017",), _check)
