"""Arms: which rate each site has, and the model that an arm trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.core.rates import check_rate
from dropkit.study.experiment import Experiment
from dropkit.study.families import FACTORS, read_arm, read_arms
from dropkit.study.remodel import remodel
from dropkit.study.result import Arm, SiteRate
from dropkit.study.spec import Spec
from dropkit.study.subjects import NO_DROPOUT
from dropkit.surgery.rates import set_rate
from dropkit.surgery.recurrent import idle_recurrent
from dropkit.surgery.sites import sites
from dropkit.surgery.swap import swap

ARGUMENT = "argument"  # the kind of a site that is an argument of the model builder

ArmSpec = Mapping[str, float | Mapping[str, float] | Spec | str] | str | Sequence[str]
Builder = Callable[..., nn.Module]


def make_arms(experiment: Experiment, builder: Builder, specs: ArmSpec | None) -> list[Arm]:
    """Return the study's arms with the rate of every site.

    Args:
        experiment: gives the intended rates, by its sites or by its builder's arguments.
        builder: builds the model; the experiment's own or the default network.
        specs: name -> a factor on every intended rate, -> {glob: rate}, -> what `dropkit.arm` returned or -> its text; or the
            text of all arms as `read_arms` reads it, whole or in a list. The default is none, reduced (half), intended.

    Raises:
        InputError: no site is found, no rate is above 0, there is one arm only, or a rate leaves [0, 1].
    """
    intended = intended_sites(experiment, builder)
    chosen = _specs(specs, intended)
    if len(chosen) < 2:
        raise InputError("a study compares at least two arms, given as {name: factor or {glob: rate}} or as text", got=specs,
                         fix='Pass for example arms={"none": 0.0, "intended": 1.0} or arms="none,intended"')
    for name, spec in chosen.items():
        if spec.against is not None and (spec.against not in chosen or spec.against == name):
            raise InputError(f"arm {name!r} is compared with another arm of the study", got=spec.against,
                             fix=f"Name one of {', '.join(chosen)}")
    if all(site.p == 0 for site in intended) and not any(isinstance(spec.rates, Mapping) or spec.recipe.changes()
                                                         for spec in chosen.values()):
        raise InputError("the intended arm drops something", got=phrase("a rate of 0 at every site"),
                         fix="Set rates above 0 in the model, or pass rate=0.5 (--rate 0.5)")
    return [_arm(name, spec, intended, experiment, builder) for name, spec in chosen.items()]


def _specs(given: ArmSpec | None, intended: Sequence[SiteRate]) -> dict[str, Spec]:
    if given is None:
        return {name: Spec(factor) for name, factor in FACTORS.items()}
    if isinstance(given, str):
        return read_arms(given, intended)
    if isinstance(given, Mapping):
        if not all(isinstance(name, str) for name in given):
            raise InputError("an arm's name is text", got=phrase(str(list(given))), fix="Put the names into quotes")
        return {name: _spec(name, spec) for name, spec in given.items()}
    if isinstance(given, (list, tuple)) and all(isinstance(item, str) for item in given):
        return read_arms(",".join(given), intended)
    raise InputError("arms are given as {name: arm} or as text", got=given, fix='Pass for example arms="none,intended"')


def _spec(name: str, given: Any) -> Spec:
    if isinstance(given, Spec):
        found = given
    elif isinstance(given, str):
        found = read_arm(given)[1]
    else:
        found = Spec(given)
    rates = found.rates
    if not isinstance(rates, Mapping) and (isinstance(rates, bool) or not isinstance(rates, (int, float)) or not rates >= 0):
        raise InputError(f"arm {name!r} is a factor of at least 0 on the intended rates, {{glob: rate}}, dk.arm(...) or text",
                         got=rates, fix="Pass for example 0.5 for half the intended rates")
    return found


def intended_sites(experiment: Experiment, builder: Builder) -> list[SiteRate]:
    """Return the sites of the model as intended, or the builder's rate arguments, with their rates."""
    if experiment.rates:
        rates = {name: _override(experiment, p) for name, p in experiment.rates.items()}
        return [SiteRate(name, ARGUMENT, p) for name, p in rates.items()]
    model = swap(build_bare(builder, {}))  # as each arm has it: swapped recurrent modules hold their sites as children
    found = sites(model)
    if not found:
        raise _nothing_drops(idle_recurrent(model))
    return [SiteRate(site.name, site.kind, _override(experiment, site.p)) for site in found]


def _nothing_drops(idle: Sequence[str]) -> InputError:
    if idle:
        return InputError("dropout= of a recurrent module acts between its layers",
                          got=phrase(f"one layer in {', '.join(map(repr, idle))}, where it does nothing, and no other dropout"),
                          fix="Pass num_layers=2 or more, or put dk.nn.Dropout or dk.nn.LockedDropout behind the module")
    return InputError("a study needs a model with dropout in it", got=phrase("a model in which no dropout module was found"),
                      fix="Add dropout modules, or, if it calls F.dropout, let the builder take the rate "
                          "and name it in rates={'p': 0.5}")


def build_bare(builder: Builder, arguments: Mapping[str, float]) -> nn.Module:
    """Call the user's builder; what it raises or wrongly returns becomes an `InputError`."""
    try:
        model = builder(**arguments)
    except FAILURES as error:
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
        return remodel(swap(build_bare(builder, {site.name: site.p for site in arm.sites})), arm.recipe)
    model = remodel(swap(build_bare(builder, {})), arm.recipe)
    set_rate(model, {site.name: site.p for site in arm.sites})
    return model


def _override(experiment: Experiment, p: float) -> float:
    return float(p if experiment.rate is None else experiment.rate)


def _arm(name: str, spec: Spec, intended: list[SiteRate], experiment: Experiment, builder: Builder) -> Arm:
    found = _rates_of(name, spec.rates, intended, experiment, builder)
    words = [_words(spec.rates, found), spec.recipe.words()]
    return Arm(name, ", ".join(part for part in words if part), found, spec.recipe, spec.against)


def _rates_of(arm: str, rates: float | Mapping[str, float], intended: list[SiteRate], experiment: Experiment,
              builder: Builder) -> list[SiteRate]:
    if not isinstance(rates, Mapping):
        return [SiteRate(site.name, site.kind, _scaled(arm, rates, site)) for site in intended]
    for glob, p in rates.items():
        check_rate(p, f"the rate of {glob!r} in arm {arm!r}")
    if experiment.rates:
        return _matched(rates, intended)
    model = swap(build_bare(builder, {}))
    set_rate(model, {site.name: site.p for site in intended})
    set_rate(model, dict(rates))
    return [SiteRate(site.name, site.kind, site.p) for site in sites(model)]


def _scaled(arm: str, factor: float, site: SiteRate) -> float:
    p = round(site.p * factor, 12)
    if p > 1:
        raise InputError(f"the factor of arm {arm!r} keeps every rate at or below 1",
                         got=phrase(f"{factor:g} times the intended rate {site.p:g} of {site.name!r}, which is {p:g}"),
                         fix=f"Use a factor of at most {math.floor(100 / site.p) / 100:g}")
    return check_rate(p)


def _matched(rates: Mapping[str, float], intended: list[SiteRate]) -> list[SiteRate]:
    """Set a builder's arguments by name or glob as `set_rate` does: a name counts above every glob, the last glob wins."""
    names = [site.name for site in intended]
    unknown = [glob for glob in rates if not any(fnmatchcase(name, glob) for name in names)]
    if unknown:
        raise InputError("an arm of a builder with rates names those arguments", got=unknown, fix=f"Use {sorted(names)}")
    found = {name: p for glob, p in rates.items() for name in names if fnmatchcase(name, glob)} | \
        {name: p for name, p in rates.items() if name in names}
    return [SiteRate(site.name, site.kind, check_rate(found.get(site.name, site.p))) for site in intended]


def _words(rates: float | Mapping[str, float], found: Sequence[SiteRate]) -> str:
    if all(site.p == 0 for site in found):
        return NO_DROPOUT
    if isinstance(rates, Mapping):
        if len({site.p for site in found}) == 1:
            return f"rate {found[0].p:g} everywhere"
        if not any(rates.values()):
            return f"{NO_DROPOUT} at {', '.join(rates)}, elsewhere the intended rates"
        return ", ".join(f"{glob}: {rate:g}" for glob, rate in rates.items())
    return {0.5: "half the intended rates", 1.0: "the intended rates"}.get(
        float(rates), f"{rates:g} times the intended rates")
