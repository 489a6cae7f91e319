"""DK304: a rate that does not reach its site. It compares builds, so it runs where the audit is given a builder."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dropkit.audit.builders import NEEDED, Builder, make, rate_arguments, takes_any
from dropkit.audit.finding import Finding, Place
from dropkit.audit.graph import label
from dropkit.audit.observation import TRAIN, SiteCall
from dropkit.audit.probe_pass import run_pass
from dropkit.audit.rule import Rule
from dropkit.surgery.calls import call_model, copy_inputs, unmoved

LOW, HIGH = NEEDED, 0.6
_TRIES = 16  # of a layer that is skipped with the rate, the two rates differ in half of the passes


def rates_reach(build: Builder, inputs: Any, names: Iterable[str] | None = None) -> list[Finding]:
    """Build a model at two values of each rate and tell the rates that nothing follows.

    A rate is followed if a site drops at another rate, or if the outputs in training differ from the same weights and seed.
    Where every rate is followed, a site that drops at one and the same rate all the time is a note, since it may be meant.

    Args:
        build: a function that returns the model, or its class.
        inputs: as in `dropkit.audit`.
        names: the arguments that are rates. Default: those whose names contain "drop".

    Raises:
        InputError: the builder fails, or has no such argument.

    Example:
        >>> found = rates_reach(lambda dropout=0.1: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(2, 4))
        >>> [(finding.rule, finding.severity) for finding in found]
        [('DK304', 'error')]
    """
    rates = rate_arguments(build, names)
    if not rates:
        return []
    with unmoved(nn.Identity()):  # random states
        return list(_compared(build, inputs, rates))


def _compared(build: Builder, inputs: Any, names: tuple[str, ...]) -> Iterator[Finding]:
    low = dict.fromkeys(names, LOW)
    first = _sites(_built(build, low), inputs)
    followed: set[str] = set()
    idle = {name for name, site in first.items() if not math.isnan(site.p)}
    for name in names:
        high = {**low, name: HIGH}
        later = _sites(_built(build, high), inputs)
        same = {site for site in first if site in later and (first[site].p == later[site].p or math.isnan(first[site].p))}
        if len(same) < len({*first, *later}) or _outputs_differ(build, inputs, low, high):
            followed.add(name)
        idle &= same
    lost = [name for name in names if name not in followed]
    yield from _findings(build, lost, names, [first[name] for name in first if name in idle])


def _findings(build: Builder, lost: list[str], names: tuple[str, ...], idle: list[SiteCall]) -> Iterator[Finding]:
    """One finding a line: the sites of a part of torch are called in one."""
    shown = " or ".join(lost or names)
    severity = "note" if not lost or takes_any(build) else "error"
    lines: dict[tuple[str | None, int | None], list[SiteCall]] = {}
    for site in idle:
        if lost or site.p > 0:
            lines.setdefault((site.op.place.file, site.op.place.line), []).append(site)
    for sites in lines.values():
        more = f" and {len(sites) - 1} more" if len(sites) > 1 else ""
        drop = f"drop{'' if more else 's'} at p={sites[0].p:g}"
        yield RULE.finding(f"{label(sites[0])}{more} {drop}, whether {shown} is {LOW:g} or {HIGH:g}", sites[0].op.place,
                           subject=sites[0].name, severity=severity, evidence={"p": sites[0].p})
    if lost and not lines:
        yield RULE.finding(f"{shown} can be {LOW:g} or {HIGH:g}: the model does the same in training", Place(""),
                           subject=shown, severity=severity)


def _built(build: Builder, rates: dict[str, float]) -> nn.Module:
    _seed(0)
    return make(build, rates).train()


def _sites(model: nn.Module, inputs: Any) -> dict[str, SiteCall]:
    found = run_pass(model, inputs, TRAIN)
    if found.error is not None:
        raise found.error
    return {site.name: site for site in found.sites}


def _outputs_differ(build: Builder, inputs: Any, low: dict[str, float], high: dict[str, float]) -> bool:
    """Whether two builds differ in training, from the same weights and seeds: a rate may act where no site is known."""
    models = _built(build, low), _built(build, high)
    return any(not _equal(*(_output(model, inputs, seed) for model in models)) for seed in range(_TRIES))


def _output(model: nn.Module, inputs: Any, seed: int) -> Any:
    _seed(seed)
    with torch.no_grad():
        return call_model(model, copy_inputs(inputs))


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _equal(first: Any, second: Any) -> bool:
    pairs = [[leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)] for x in (first, second)]
    return len(pairs[0]) == len(pairs[1]) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(*pairs, strict=True))


RULE = Rule(
    id="DK304",
    title="The rate in the configuration does not reach the site",
    why="The value is accepted and ignored: a search over rates compares equal networks, and the paper states a rate that was "
        "not used.",
    fix="Pass the value on to the layer. A test that builds the model with two rates keeps it so.",
    severity="error",
    confidence="high",
    bad="""\
from torch import nn
import torch


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
""",
    good="""\
from torch import nn
import torch


class Net(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(16, 32), nn.Dropout(dropout), nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.drop(self.first(x)))


def build(dropout=0.1):
    return Net(dropout)


def inputs():
    return torch.ones(8, 16)
""",
    references=("github.com/dimitymiller/cac-openset, issue 1", "github.com/huawei-noah/multi_hyp_cc, pull request 17",
                "github.com/kanyun-inc/commonsense-rc, issue 4"))
