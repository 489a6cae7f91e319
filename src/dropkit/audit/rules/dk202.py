"""DK202: dropout on the residual stream."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, NORMS, PATHS, PLAIN, VIEWS, Graph, graph, label, source
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in known.sites(ELEMENTWISE | CHANNELS | PATHS):
        told = "the sum of a residual block, not its branch" if _drops_sum(known, site) else (
            "a copy of the stream that is added to the stream: the branch holds no layer" if _is_branch(known, site) else None)
        if told is not None:
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops {told}", site.op.place,
                               subject=site.name.rpartition(":")[2], evidence={"p": site.p})


def _drops_sum(known: Graph, site: SiteCall) -> bool:
    """Whether a site drops a residual sum, as it is or normalised, that later blocks add to."""
    total = source(site.op, PLAIN | NORMS)
    if total is None or known.residual(total) is None:
        return False
    later = {op.module for op, stream, _ in known.residuals(site.op) if _reaches(site, stream)}
    if any(_inside(module, total.module) for module in later):
        return False  # the sum stands before the blocks, as that of an embedding and a convolution of it
    within = site.op.module if site.functional else site.op.module.rpartition(".")[0]
    direct = total is source(site.op)  # else it may be the head of a network that ends with a normalisation
    return bool(later) or (direct and bool(within) and within == total.module)


def _inside(module: str, outer: str) -> bool:
    return module != outer and (not outer or module.startswith(outer + "."))


def _is_branch(known: Graph, site: SiteCall) -> bool:
    """Whether the branch of a residual block is the stream, dropped, and nothing else."""
    for _, stream, branch in known.residuals(site.op):
        if branch is site.op or (branch.name in VIEWS and source(branch, VIEWS) is site.op):
            return stream in site.op.parents or source(site.op, VIEWS) is stream
    return False


def _reaches(site: SiteCall, stream: Op) -> bool:
    """Whether the stream is what the site made, but for views and activations."""
    return stream is site.op or (stream.name in PLAIN and source(stream) is site.op)


_BAD = """import torch
from torch import nn
from torch.nn import functional as F
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.drop = nn.Linear(16, 16), nn.Dropout(0.2)
    def forward(self, x):
        return self.drop(x + self.f(x))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(), nn.LayerNorm(16))
    def forward(self, x):
        return self.blocks(x)
def build():
    return Net()
def inputs():
    return torch.randn(8, 4, 16)
"""
RULE = Rule(
    "DK202", "Dropout acts on the residual stream, not in the branch",
    "What is dropped from the stream is lost to every later block, and the chance to survive falls with depth as (1 "
    "- p) to the number of blocks. The identity path is what makes deep residual networks trainable.",
    "Apply the dropout to the branch before it is added: x + drop(f(x)).",
    "warning", "medium", _BAD, _BAD.replace("self.drop(x + self.f(x))", "x + self.drop(self.f(x))"),
    ("Ashish Vaswani et al., Attention Is All You Need, 2017, section 5.4",
     "Kaiming He et al., Identity Mappings in Deep Residual Networks, 2016, section 3.1 (dropout shortcut)",
     "github.com/hyunwoongko/transformer, issue 8",
     "github.com/codertimo/BERT-pytorch, issue 85",), _check)
