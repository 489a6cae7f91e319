"""DK101: dropout that acts in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import EVAL, Observation
from dropkit.audit.rule import Rule


def check(seen: Observation) -> Iterator[Finding]:
    """Find sites that drop in evaluation, one finding a site."""
    told: set[str] = set()
    for site in seen.site_calls(EVAL):
        if site.active and site.name not in told:
            told.add(site.name)
            path, _, call = site.name.partition(":")
            what = f"the call of {call.partition('#')[0]}" if site.functional else f"the {site.kind} at {path!r}"
            advice = ("Pass training=self.training, or use a module" if site.functional and site.kind != "attention" else
                      "Pass dropout_p=self.p if self.training else 0.0" if site.functional else
                      "Look for what sets it to training mode after model.eval()")
            yield RULE.finding(f"{what} drops in evaluation, at rate {site.p:g}", replace(site.place, module=path), advice,
                               subject=call, evidence={"p": site.p})


RULE = Rule(
    id="DK101",
    title="dropout acts in evaluation",
    why="Predictions are noisy, differ from call to call, and are worse than they could be; scores on "
        "validation data are too low. `F.dropout` has `training=True` as its default, "
        "`F.scaled_dot_product_attention` takes a rate and no mode, and a dropout module that is built inside "
        "`forward` is in training mode for ever.",
    fix="Pass `training=self.training` to the function, `dropout_p=self.p if self.training else 0.0` to "
        "attention, and build modules in `__init__`. If the noise is meant, as in the prenet of Tacotron 2, "
        "say so: `# dropkit: allow DK101 (reason)`.",
    severity="error",
    confidence="high",
    bad="""
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, x):
        x = F.dropout(self.first(x).relu(), 0.5)  # here
        return self.second(x)


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    good="""
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, x):
        x = F.dropout(self.first(x).relu(), 0.5, self.training)
        return self.second(x)


def build():
    return Net()


def inputs():
    return torch.ones(4, 64)
""",
    references=("PyTorch documentation, torch.nn.functional.dropout: the default of training is True.",
                "PyTorch documentation, torch.nn.functional.scaled_dot_product_attention: dropout is applied "
                "according to dropout_p alone, whatever the mode."),
    check=check)
