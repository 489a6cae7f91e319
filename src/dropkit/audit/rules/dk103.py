"""DK103: evaluation that differs from run to run although no dropout acts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import EVAL, Observation
from dropkit.audit.rule import Rule


def check(seen: Observation) -> Iterator[Finding]:
    """Find randomness in evaluation that no known site explains."""
    run = seen.ran(EVAL)
    if run is None or not run.varies or any(site.active for site in run.sites):
        return
    drawn = {(event.module, event.place.line): event for event in run.opaque}
    for event in drawn.values():
        yield RULE.finding(f"the outputs differ from run to run in evaluation; {event.operator} draws random numbers",
                           replace(event.place, module=event.module), subject=event.operator)
    if not drawn:
        yield RULE.finding("the outputs differ from run to run in evaluation, by numbers from outside torch", Place(""))


RULE = Rule(
    id="DK103",
    title="evaluation differs from run to run although no dropout acts",
    why="Something draws random numbers in evaluation, and it is no dropout that is known: noise or "
        "stochastic depth written by hand that forgets the mode, a random crop, a shuffle.",
    fix="Draw only `if self.training`. Where the noise is meant, say so: `# dropkit: allow DK103 (reason)`.",
    severity="warning",
    confidence="high",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 8)

    def forward(self, x):
        keep = torch.rand(len(x), 1) > 0.1  # here
        return x + self.body(x) * keep / 0.9


def build():
    return Net()


def inputs():
    return torch.ones(40, 8)
""",
    good="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 8)

    def forward(self, x):
        if not self.training:
            return x + self.body(x)
        keep = torch.rand(len(x), 1) > 0.1
        return x + self.body(x) * keep / 0.9


def build():
    return Net()


def inputs():
    return torch.ones(40, 8)
""",
    references=("PyTorch documentation, torch.nn.Module.eval: it sets a flag, which only modules that ask for it heed.",),
    check=check)
