"""DK102: an evaluation that changes dropout for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import AGAIN, TRAIN, Observation
from dropkit.audit.rule import Rule


def check(seen: Observation) -> Iterator[Finding]:
    """Compare the sites of training before an evaluation with those after it."""
    if seen.ran(TRAIN) is None or seen.ran(AGAIN) is None:
        return
    after = {site.name: site for site in seen.site_calls(AGAIN)}
    for site in {site.name: site for site in seen.site_calls(TRAIN)}.values():
        path, _, call = site.name.partition(":")
        now = after.get(site.name)
        if now is None:
            words = "is not called any more"
        elif now.p != site.p:
            words = f"has the rate {now.p:g} instead of {site.p:g}"
        elif now.active != site.active:
            words = "does not drop any more" if site.active else "drops, which it did not before"
        else:
            continue
        yield RULE.finding(f"after an evaluation the site {site.name!r} {words}", replace(site.place, module=path),
                           subject=call, evidence={"p": site.p})


RULE = Rule(
    id="DK102",
    title="an evaluation changes dropout for good",
    why="The model is evaluated during training, and from then on it trains without its dropout, or with "
        "another rate. Nothing fails; the model only over-fits after the first evaluation.",
    fix="Change nothing in `forward` or `eval()` that `train()` does not change back. Let the mode alone turn "
        "dropout off.",
    severity="error",
    confidence="high",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop = nn.Linear(64, 64), nn.Dropout(0.5)

    def forward(self, x):
        if not self.training:
            self.drop.p = 0.0
        return self.drop(self.body(x))  # here


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
        self.body, self.drop = nn.Linear(64, 64), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.body(x))


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    references=("NVIDIA/Megatron-LM, issue 411: dropout stays at zero after an evaluation.",),
    check=check)
