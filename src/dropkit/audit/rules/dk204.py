"""DK204: single values of a feature map dropped."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CONVOLUTIONS, ELEMENTWISE, NORMS, PLAIN, POOLS, graph, label, sinks, source
from dropkit.audit.observation import Observation
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites(ELEMENTWISE):
        layer = source(site.op, PLAIN | NORMS | POOLS)
        if layer is None or layer.name not in CONVOLUTIONS or len(site.op.shape) != 4 or min(site.op.shape[2:]) < 2:
            continue
        if any(op.name in CONVOLUTIONS for op in sinks(site.op, PLAIN | NORMS | POOLS)) and not known.bypassed(site.op):
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops single values of a feature map of "
                               f"{site.op.shape[2]}x{site.op.shape[3]}",
                               site.op.place, subject=site.name.rpartition(":")[2], evidence={"p": site.p})


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.drop = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Dropout(0.2)
    def forward(self, x):
        return self.second(self.drop(F.relu(self.first(x)))).mean((2, 3))
def build():
    return Net()
def inputs():
    return torch.randn(2, 3, 12, 12)
"""
RULE = Rule(
    "DK204", "Element-wise dropout on a convolution's feature map",
    "Neighbouring values of a feature map are alike, so the next convolution reads around what was dropped: the "
    "noise is there and the regularisation is weak.",
    "Drop whole channels (nn.Dropout2d) or blocks (dropkit.nn.DropBlock2d). Inside a residual branch element-wise "
    "dropout is common and is not reported.",
    "note", "medium", _BAD, _BAD.replace("nn.Dropout(", "nn.Dropout2d("),
    ("Jonathan Tompson et al., Efficient Object Localization Using Convolutional Networks, 2015",
     "Golnaz Ghiasi et al., DropBlock, 2018",), _check)
