"""DK208: dropout before pooling, and a path mask that several branches share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dropkit.audit.finding import Finding
from dropkit.audit.graph import ELEMENTWISE, MAX_POOLS, Graph, graph, label, sinks
from dropkit.audit.graph_noise import masked
from dropkit.audit.observation import Observation, Op
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites(ELEMENTWISE):
        pool = next((op for op in sinks(site.op) if _undoes(op, site.op)), None)
        if pool is not None:
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops single values before {pool.name}", site.op.place,
                               subject=site.name.rpartition(":")[2], evidence={"p": site.p})
    yield from _shared(known)


def _undoes(op: Op, dropped: Op) -> bool:
    """Whether an operation takes maxima of what was dropped, or the mean of a whole map."""
    if len(dropped.shape) < 3:
        return False
    within = len(op.parents) == 1 and op.shape[:1] == dropped.shape[:1] and len(op.shape) < len(dropped.shape)
    whole = (op.name == "mean" and len(op.shape) == 2) or (op.name == "adaptive_avg_pool2d" and op.shape[2:] == (1, 1))
    return op.name in MAX_POOLS or (op.name in ("max", "amax") and within) or (whole and len(dropped.shape) == 4)


def _shared(known: Graph) -> Iterator[Finding]:
    """Draws of one number an example that more than one branch of residual blocks is multiplied by."""
    for draw, uses in masked(known):
        branches = [op for op in uses if known.bypassed(op)]
        layers = {_layer(op) for op in branches}
        if len(layers) > 1 and None not in layers:
            yield RULE.finding(f"One mask serves {len(branches)} branches: an example loses all of them or none", draw.place,
                               "Draw a mask for each branch", subject="shared", evidence={"branches": len(branches)})


def _layer(op: Op) -> tuple[str, ...] | None:
    """The parameters of the layer nearest above a result."""
    above, told = list(op.parents), set(op.parents)
    while above:
        now = above.pop(above.index(max(above, key=lambda op: op.index)))
        if now.parameters:
            return now.parameters
        above += set(now.parents) - told
        told |= set(now.parents)
    return None


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
    "DK208", "Element-wise dropout stands before a pooling that undoes it, or branches share one mask",
    "A maximum picks the largest of the kept and scaled values, so its mean is not that of evaluation. A global "
    "mean averages the mask away. A mask for whole branches that is drawn once for "
    "several of them leaves an example with all branches or none.",
    "Move the dropout behind the pooling. Draw a path mask for each branch.",
    "note", "medium", _BAD, _BAD.replace("F.max_pool2d(self.drop(x), 2)", "F.max_pool2d(x, 2)")
    .replace("x.amax((2, 3))", "self.drop(x.amax((2, 3)))"),
    ("Haibing Wu and Xiaodong Gu, Towards Dropout Training for Convolutional Neural Networks, 2015 (max-pooling "
     "dropout)", "Gao Huang et al., Deep Networks with Stochastic Depth, 2016 (independent draws)"), _check)
