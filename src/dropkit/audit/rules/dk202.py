"""DK202: dropout on the residual stream."""

from __future__ import annotations

from collections.abc import Iterable

from dropkit.audit.finding import Finding
from dropkit.audit.graph import CHANNELS, ELEMENTWISE, PATHS, PLAIN, each, graph, label, source
from dropkit.audit.observation import Observation, Op, SiteCall
from dropkit.audit.rule import Rule


def _check(seen: Observation) -> Iterable[Finding]:
    known = graph(seen)
    if known is None:
        return
    for site in each(known.sites(ELEMENTWISE | CHANNELS | PATHS)):
        total = source(site.op)
        if total is None or known.residual(total) is None:
            continue
        later = [known.residual(op) for op in known.ops[site.op.index:]]
        stream = any(pair is not None and _reaches(site, pair[0]) for pair in later)
        within = site.op.module if site.functional else site.op.module.rpartition(".")[0]
        if stream or (within and within == total.module):  # else it may be the head of a network without pooling
            yield RULE.finding(f"{label(site)} (p={site.p:g}) drops the sum of a residual block, not its "
                               f"branch", site.op.place,
                               subject=site.name.rpartition(":")[2], evidence={"p": site.p})


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
