"""Arms: which rate each site has, and the model that an arm trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate
from dropkit.study.experiment import Experiment
from dropkit.study.result import Arm, SiteRate
from dropkit.surgery.rates import set_rate
from dropkit.surgery.sites import sites
from dropkit.surgery.swap import swap

DEFAULT_ARMS: dict[str, float] = {"none": 0.0, "reduced": 0.5, "intended": 1.0}
ARGUMENT = "argument"  # the kind of a site that is an argument of the model builder

ArmSpec = Mapping[str, float | Mapping[str, float]]
Builder = Callable[..., nn.Module]


def make_arms(experiment: Experiment, builder: Builder, specs: ArmSpec | None) -> list[Arm]:
    """Return the study's arms with the rate of every site.

    Args:
        experiment: gives the intended rates, by its sites or by its builder's arguments.
        builder: builds the model; the experiment's own or the default network.
        specs: name -> a factor on every intended rate, or -> {glob: rate}; the default is none, reduced (half), intended.

    Raises:
        InputError: no site is found, no rate is above 0, there is one arm only, or a rate leaves [0, 1].
    """
    chosen = DEFAULT_ARMS if specs is None else specs
    if not isinstance(chosen, Mapping) or len(chosen) < 2:
        raise InputError("a study compares at least two arms, given as {name: factor or {glob: rate}}", got=specs,
                         fix='Pass for example arms={"none": 0.0, "intended": 1.0}')
    intended = intended_sites(experiment, builder)
    if all(site.p == 0 for site in intended) and all(isinstance(spec, (int, float)) for spec in chosen.values()):
        raise InputError("the intended arm drops something", got=phrase("a rate of 0 at every site"),
                         fix="Set rates above 0 in the model, or pass rate=0.5 (--rate 0.5)")
    return [_arm(name, spec, intended, experiment, builder) for name, spec in chosen.items()]


def intended_sites(experiment: Experiment, builder: Builder) -> list[SiteRate]:
    """Return the sites of the model as intended, or the builder's rate arguments, with their rates."""
    if experiment.rates:
        rates = {name: _override(experiment, p) for name, p in experiment.rates.items()}
        return [SiteRate(name, ARGUMENT, p) for name, p in rates.items()]
    found = sites(swap(build_bare(builder, {})))  # as each arm has them: swapped recurrent modules hold theirs as children
    if not found:
        raise InputError("a study needs a model with dropout in it", got=phrase("a model in which no dropout module was found"),
                         fix="Add dropout modules, or, if it calls F.dropout, let the builder take the rate "
                             "and name it in rates={'p': 0.5}")
    return [SiteRate(site.name, site.kind, _override(experiment, site.p)) for site in found]


def build_bare(builder: Builder, arguments: Mapping[str, float]) -> nn.Module:
    """Call the user's builder; what it raises or wrongly returns becomes an `InputError`."""
    try:
        model = builder(**arguments)
    except Exception as error:
        raise InputError("the model builder returns an nn.Module", got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Correct the builder; calling it by itself shows where it fails") from error
    if not isinstance(model, nn.Module):
        raise InputError("the model builder returns an nn.Module", got=phrase(type(model).__name__),
                         fix="Return the module from the builder")
    return model


def build_arm(experiment: Experiment, builder: Builder, arm: Arm, seed: int | None = None) -> nn.Module:
    """Build the model of ``arm``, its dropout on dropkit's keyed masks; ``seed`` fixes its initial weights."""
    if seed is not None:
        torch.manual_seed(seed)
    if experiment.rates:
        return swap(build_bare(builder, {site.name: site.p for site in arm.sites}))
    model = swap(build_bare(builder, {}))
    set_rate(model, {site.name: site.p for site in arm.sites})
    return model


def _override(experiment: Experiment, p: float) -> float:
    return float(p if experiment.rate is None else experiment.rate)


def _arm(name: str, spec: float | Mapping[str, float], intended: list[SiteRate], experiment: Experiment,
         builder: Builder) -> Arm:
    if isinstance(spec, Mapping):
        return Arm(name, _words(spec), _globbed(spec, intended, experiment, builder))
    if isinstance(spec, bool) or not isinstance(spec, (int, float)) or not spec >= 0:
        raise InputError(f"arm {name!r} is a factor of at least 0 on the intended rates, or {{glob: rate}}", got=spec,
                         fix="Pass for example 0.5 for half the intended rates")
    described = {0.0: "no dropout", 0.5: "half the intended rates", 1.0: "the intended rates"}
    words = described.get(float(spec), f"{spec:g} times the intended rates")
    return Arm(name, words, [SiteRate(site.name, site.kind, check_rate(site.p * spec)) for site in intended])


def _globbed(spec: Mapping[str, float], intended: list[SiteRate], experiment: Experiment,
             builder: Builder) -> list[SiteRate]:
    if experiment.rates:
        unknown = set(spec) - set(experiment.rates)
        if unknown:
            raise InputError("an arm of a builder with rates names those arguments", got=sorted(unknown),
                             fix=f"Use {sorted(experiment.rates)}")
        return [SiteRate(site.name, site.kind, check_rate(spec.get(site.name, site.p))) for site in intended]
    model = swap(build_bare(builder, {}))
    set_rate(model, {site.name: site.p for site in intended})
    set_rate(model, dict(spec))
    return [SiteRate(site.name, site.kind, site.p) for site in sites(model)]


def _words(spec: Mapping[str, Any]) -> str:
    return ", ".join(f"{glob}: {rate:g}" for glob, rate in spec.items())
