"""DK304: a rate that does not reach its site. It needs two builds, so it is run where a builder takes the rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from dropkit.audit.finding import Finding, Place
from dropkit.audit.graph import label
from dropkit.audit.observation import TRAIN
from dropkit.audit.rule import Rule


def rates_reach(build: Callable[[float], nn.Module], inputs: Any, low: float = 0.1, high: float = 0.4) -> list[Finding]:
    """Build a model with two rates and tell the sites that drop at the same rate in both.

    One site that follows the rate is not enough: a constant beside it is reported as a note, since it may be meant.

    Args:
        build: makes the model for a rate.
        inputs: as in `dropkit.audit`.
        low: the first rate, in (0, 1).
        high: the second, in (0, 1), another one.

    Example:
        >>> import torch
        >>> found = rates_reach(lambda p: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(2, 4))
        >>> [(finding.rule, finding.severity) for finding in found]
        [('DK304', 'error')]
    """
    from dropkit.audit.probe import observe

    first, second = (observe(build(p), inputs) for p in (low, high))
    later = {site.name: site for site in second.site_calls(TRAIN)}
    calls = {site.name: site for site in first.site_calls(TRAIN)}
    same = [site for name, site in calls.items() if name in later and later[name].p == site.p]
    follows = len(same) < len(set(calls) | set(later))
    if not calls and not later and first.ran(TRAIN) is not None and second.ran(TRAIN) is not None:
        return [RULE.finding(f"No site drops, built with rate {low:g} or {high:g}", Place(""), subject="none")]
    return [RULE.finding(f"{label(site)} drops at p={site.p:g}, built with rate {low:g} or {high:g}", site.op.place,
                         subject=site.name, severity="note" if follows else "error", evidence={"p": site.p}) for site in same]


_BAD = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(16, 32), nn.Dropout(), nn.Linear(32, 4)
    def forward(self, x):
        return self.last(self.drop(self.first(x)))
def build(dropout=0.1):
    return Net(dropout)
def inputs():
    return torch.ones(8, 16)
"""
RULE = Rule(
    "DK304", "The rate in the configuration does not reach the site",
    "The value is accepted and ignored: a search over rates compares equal networks, and the paper states a rate that was "
    "not used.",
    "Pass the value on to the layer. A test that builds the model with two rates keeps it so.",
    "error", "high", _BAD, _BAD.replace("nn.Dropout()", "nn.Dropout(dropout)"),
    ("github.com/dimitymiller/cac-openset, issue 1", "github.com/huawei-noah/multi_hyp_cc, pull request 17",
     "github.com/kanyun-inc/commonsense-rc, issue 4"))
