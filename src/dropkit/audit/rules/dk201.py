"""DK201: dropout that shifts the variance of what batch normalisation gets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dropkit.audit.finding import Finding
from dropkit.audit.observation import TRAIN, Observation, Op
from dropkit.audit.rule import Rule

_SHIFT = 1.1  # of the variance, from which on a finding is made


def check(seen: Observation) -> Iterator[Finding]:
    """Compare the measured variance of each normalisation's input in training with that in evaluation."""
    run = seen.ran(TRAIN)
    if run is None:
        return
    norms = {op.module: op for op in run.ops if op.name == "batch_norm"}
    for path, (training, evaluation) in seen.batch_norm_inputs.items():
        op = norms.get(path)
        before = None if op is None else _site_before(op)
        varying = evaluation > 1e-12
        if before is None or before.site is None or not bool(varying.any()):
            continue
        shift = float((training[varying] / evaluation[varying]).median())
        if shift > _SHIFT:
            site = before.site
            yield RULE.finding(
                f"batch normalisation at {path!r} gets {shift:.2f} times the variance in training that it gets in evaluation, "
                f"from the dropout {site.name!r} before it", replace(before.place, module=site.name.partition(":")[0]),
                subject=path, evidence={"shift": shift, "p": site.p})


def _site_before(op: Op) -> Op | None:
    """The site that acts on the way to an operation, nearest first; residual sums and what lies before a norm are the end."""
    ahead, seen = list(op.parents), set[int]()
    while ahead:
        found = ahead.pop(0)
        if found.index in seen or found.name in ("batch_norm", "layer_norm", "group_norm"):
            continue
        seen.add(found.index)
        if found.site is not None and found.site.active:
            return found
        ahead += found.parents
    return None


RULE = Rule(
    id="DK201",
    title="dropout before batch normalisation shifts its variance",
    why="Dropout at rate p multiplies the second moment of what it passes on by 1 / (1 - p). Batch "
        "normalisation averages the variance of training and uses it in evaluation, where dropout is off and "
        "the variance is smaller: all activations behind it are then off scale. The finding names the "
        "measured ratio.",
    fix="Put dropout after the last batch normalisation, most simply before the classifier. Or lower the "
        "rate; or use layer normalisation, which takes the statistics of each example anew.",
    severity="warning",
    confidence="high",
    bad="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.norm = nn.Linear(16, 16), nn.Dropout(0.5), nn.BatchNorm1d(16)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        x = self.drop(self.first(x).relu())  # here
        return self.second(self.norm(x))


def build():
    torch.manual_seed(0)
    return Net()


def inputs():
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
""",
    good="""
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)
        self.second = nn.Linear(16, 2)

    def forward(self, x):
        x = self.drop(self.norm(self.first(x)).relu())
        return self.second(x)


def build():
    torch.manual_seed(0)
    return Net()


def inputs():
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
""",
    references=("Li, Chen, Hu, Yang: \"Understanding the disharmony between dropout and batch normalization by variance "
                "shift\", CVPR 2019.",),
    check=check)
