"""Dropout that a study does not set: it acts in every arm, in the one without dropout, too."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from dropkit.catalog import CATALOG
from dropkit.core.errors import FAILURES
from dropkit.study.result import Arm
from dropkit.study.subjects import NO_DROPOUT, STILL_SOME
from dropkit.study.wording import count
from dropkit.surgery.calls import unmoved
from dropkit.surgery.sites import Site, sites

_TOLD = 8  # places named in a caution


def unset_sites(build: Callable[[], nn.Module], x: Tensor) -> list[Site]:
    """Return the sites that drop in training although every rate that the study sets is 0.

    The model runs once in training and once in evaluation mode. All random states are left as they were.

    Args:
        build: builds the model with every rate that the study sets at 0, its lazy layers settled.
        x: some examples, (N, ...).

    Returns:
        Modules and functional calls; none where the model cannot be built or traced.

    Example:
        >>> import torch
        >>> def build():
        ...     return nn.Sequential(nn.Dropout(0.0), nn.Dropout(0.1))
        >>> [site.name for site in unset_sites(build, torch.ones(2, 3))]
        ['1']
    """
    with unmoved(nn.Identity()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same forwards were tried before: what they warn of has been told
        try:
            return [site for site in sites(build().train(), x) if site.active]
        except FAILURES:  # a model that cannot be watched is studied as it is
            return []


def truthful(arm: Arm) -> Arm:
    """Return an arm whose description does not call it without dropout while some is left.

    Example:
        >>> truthful(Arm("none", "no dropout; 3 epochs", [])).description
        'no dropout but what the study does not set; 3 epochs'
        >>> truthful(Arm("intended", "the intended rates; 3 epochs", [])).description
        'the intended rates; 3 epochs'
    """
    if any(site.p > 0 for site in arm.sites) or not arm.description.startswith(NO_DROPOUT):
        return arm
    return replace(arm, description=STILL_SOME + arm.description[len(NO_DROPOUT):])


def unset_words(left: Sequence[Site], rates: Mapping[str, float]) -> str:
    """Return the caution that names the sites, says what the study then tells, and how to make them part of it.

    Args:
        left: what `unset_sites` returned; at least one.
        rates: the experiment's, by the builder's arguments; empty where the study sets the rates of modules.

    Example:
        >>> left = unset_sites(lambda: nn.Sequential(nn.Dropout(0.1)), Tensor([1.0]))
        >>> unset_words(left, {"p": 0.5}).partition(". ")[0]
        "Dropout that the study does not set acts in every arm, whatever its rates: Dropout '0' with p = 0.1"
    """
    places: dict[str, list[Site]] = {}
    for site in left:
        places.setdefault(_place(site), []).append(site)
    modules = {place: len({id(site.module) for site in group}) for place, group in places.items()}
    named = [place + (f" (in {count(n, 'module')})" if n > 1 else "") for place, n in modules.items()]
    more = f" and {len(named) - _TOLD} more, which dk.sites(model, inputs) lists" if len(named) > _TOLD else ""
    return (f"Dropout that the study does not set acts in every arm, whatever its rates: {'; '.join(named[:_TOLD])}{more}. "
            f"So the study tells what the rates that it sets are worth on top of it. {_remedy(left, rates)}")


def _place(site: Site) -> str:
    rate = "" if math.isnan(site.p) else f" with p = {site.p:g}"
    if site.call is None:
        return f"{type(site.module).__name__} {site.name!r}{rate}" if site.name else f"the model itself{rate}"
    always = ", in evaluation too" if site.always else ""
    return f"a call of {site.call.partition('#')[0]}{rate} at {site.where}{always}"


def _remedy(left: Sequence[Site], rates: Mapping[str, float]) -> str:
    take = "let the builder take the rate and name it in rates={...}"
    if rates:
        return f"To make it part of the study, {take} beside {', '.join(map(repr, rates))}."
    if any(site.call is None for site in left):
        return f"To make it part of the study, {take}."
    modules = list(dict.fromkeys(f"dk.nn.{row.module.__name__}" for site in left for row in CATALOG if row.name == site.kind))
    if not modules:
        return f"To make it part of the study, {take} with all the others."
    listed = " and ".join(filter(None, (", ".join(modules[:-1]), modules[-1])))
    place = "its place" if len(left) == 1 else "their place"
    return f"To make it part of the study, use {listed} in {place}, or {take} with all the others."
