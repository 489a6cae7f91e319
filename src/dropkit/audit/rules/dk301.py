"""DK301: training's mean that is not evaluation's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from dropkit.audit.finding import Finding, Place
from dropkit.audit.observation import AGAIN, EVAL, TRAIN, Observation
from dropkit.audit.rule import Rule
from dropkit.inference.factors import Factor, module_factors
from dropkit.inference.flows import flow_factors
from dropkit.surgery.calls import undisturbed
from dropkit.surgery.modules import unwrap

_APART = 0.03  # smaller differences may be meant
_DRAWS = 1e-9  # of the interval: above the rounding of equal outputs


def check(seen: Observation) -> Iterator[Finding]:
    """Measure training's mean as a multiple of evaluation: of what modules that act in training return, and of what all get."""
    if any(seen.ran(mode) is None for mode in (TRAIN, EVAL, AGAIN)):
        return
    called = {op.module: op.place for op in seen.passes[TRAIN].ops}
    changing, factors, flows = _measured(seen)
    varying = {*changing, *(drawn.module for drawn in seen.passes[EVAL].opaque),
               *(site.op.module for site in seen.passes[EVAL].sites if site.active)}
    for found in factors:
        if found.name in varying:
            continue  # DK101 or DK103: there is no evaluation to compare with
        if found.high - found.low < _DRAWS:
            continue  # its random numbers, if any, are drawn elsewhere and stay as they are while it is called by itself
        if found.judged and not found.matches and abs(found.factor - 1) > _APART:
            place = called.get(found.name, Place())
            yield RULE.finding(
                f"the mean of {found.name!r} in training is {found.factor:.3g} times its output in evaluation "
                f"[{found.low:.3g}, {found.high:.3g}]", Place(found.name, place.file, place.line, place.code),
                evidence={"factor": found.factor, "low": found.low, "high": found.high})
    for found in flows:
        if not found.matches and abs(found.factor - 1) > _APART:
            place = called.get(found.name, Place())
            yield RULE.finding(
                f"the mean of what {found.name!r} is given in training is {found.factor:.3g} times what it is given in "
                f"evaluation [{found.low:.3g}, {found.high:.3g}]", Place(found.name, place.file, place.line, place.code),
                subject="given", evidence={"factor": found.factor, "low": found.low, "high": found.high})


def _measured(seen: Observation) -> tuple[list[str], list[Factor], list[Factor]]:
    """The modules that change in evaluation, the factors of modules, and those of what they are given.

    Passes end where a factor is surely too near to 1 to be told.
    """
    model: nn.Module = unwrap(seen.model)
    with undisturbed(model), torch.no_grad():
        torch.manual_seed(0)
        changing, factors = module_factors(model.eval(), seen.inputs, 100, level=0.999, near=_APART)
        return changing, factors, flow_factors(model, seen.inputs, 100, level=0.999, near=_APART)


RULE = Rule(
    id="DK301",
    title="the mean in training is not the output in evaluation",
    why="Dropout keeps the mean only if what is kept is divided by 1 - p in training, or everything multiplied by 1 - p in "
        "evaluation. A scale that is forgotten, applied twice, or turned round shifts everything that comes after, in one "
        "of the two modes. Modules without children are measured by themselves; the code between layers, in the `forward` of "
        "modules with children, by what the next layer is given. The latter is not seen where it passes through something that "
        "is not linear before it gets to a layer, where something is added in one mode alone, where it is the output or "
        "goes to a softmax layer or a loss, or where dropkit's own functions, or code compiled by `torch.jit` or "
        "`torch.compile`, make it.",
    fix="Divide by the probability of keeping, once, in training. Or use `nn.Dropout` or one of dropkit's variants.",
    severity="error",
    confidence="high",
    bad="""
import torch
from torch import nn


class Drop(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand_like(x) > 0.5)  # here


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), Drop(), nn.Linear(64, 2))


def inputs():
    return torch.ones(8, 64)
""",
    good="""
import torch
from torch import nn


class Drop(nn.Module):
    def forward(self, x):
        if not self.training:
            return x
        return x * (torch.rand_like(x) > 0.5) / 0.5


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), Drop(), nn.Linear(64, 2))


def inputs():
    return torch.ones(8, 64)
""",
    references=("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: \"Dropout: a simple way to prevent neural networks "
                "from overfitting\", JMLR 2014: weights are multiplied by the probability of keeping in evaluation.",),
    check=check)
