"""Set the rates of a model's dropout."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate
from dropkit.surgery.sites import Site, sites

_CALLS = "Functional calls such as F.dropout can be set once dropkit.swap(model, inputs=...) has found them"


def set_rate(model: nn.Module, rate: float | Mapping[str, float]) -> dict[str, float]:
    """Set the rate of all sites, or of those whose names match.

    Nothing changes unless everything is in order. The rates of functional calls can be set once ``dk.swap`` has found them
    with ``inputs``: what is set here counts instead of what the code passes, wherever the call would drop, until it is set
    back to the code's own rate.

    Args:
        model: any module with dropout in it. Sites that learn their rate, or have none, are left alone.
        rate: one rate in [0, 1] for every site, or rates by site name or glob. Where several globs match a site the last
            one counts; a site's own name counts above every glob. The model itself is named ``""``.

    Returns:
        The rates that the changed sites had, by name: ``set_rate(model, previous)`` restores them.

    Raises:
        InputError: for a rate outside [0, 1] or one that a site refuses, a pattern that matches no site, or a model without
            sites.

    Example:
        >>> model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5)))
        >>> set_rate(model, {"1.*": 0.1, "1.0": 0.2})
        {'1.0': 0.5, '1.1': 0.5}
        >>> [site.p for site in sites(model)]
        [0.5, 0.2, 0.1]
    """
    found = {site.name: site for site in sites(model) if site.settable}
    if not found:
        raise InputError("a model whose rates are set has dropout modules", got=phrase(type(model).__name__),
                         fix=f"Add dropkit.nn.Dropout where it should drop. {_CALLS}")
    rates = _matched(found, rate) if isinstance(rate, Mapping) else dict.fromkeys(found, check_rate(rate, "rate"))
    previous = {name: found[name].p for name in found if name in rates}
    set_all(found, rates, previous)
    return previous


def set_all(found: Mapping[str, Site], rates: Mapping[str, float], previous: Mapping[str, float]) -> None:
    """Set the rates of sites, all or none.

    Args:
        found: sites by name.
        rates: by name.
        previous: what these sites have now.

    Raises:
        InputError: for a rate that a site refuses, such as 1 for some variants.

    Example:
        >>> found = {site.name: site for site in sites(nn.Sequential(nn.Dropout(0.5)))}
        >>> set_all(found, {"0": 0.1}, {"0": 0.5})
        >>> found["0"].module
        Dropout(p=0.1, inplace=False)
    """
    try:
        for name, value in rates.items():
            found[name].set_rate(value)
    except InputError:
        for name in rates:
            found[name].set_rate(previous[name])
        raise


def _matched(found: Mapping[str, Site], patterns: Mapping[str, Any]) -> dict[str, float]:
    rates: dict[str, float] = {}
    exact: dict[str, float] = {}
    for pattern, value in patterns.items():
        checked = check_rate(value, f"the rate of {pattern!r}")
        if pattern in found:  # before globbing: "[0]" may be a name, and restoring needs names to mean themselves
            exact[pattern] = checked
            continue
        names = [name for name in found if isinstance(pattern, str) and fnmatchcase(name, pattern)]
        if not names:
            more = f". {_CALLS}" if ":" in str(pattern) else ""
            raise InputError("every pattern matches the name of a site", got=pattern, fix=nearest(pattern, found) + more)
        rates.update(dict.fromkeys(names, checked))
    return rates | exact


def nearest(pattern: Any, names: Iterable[str], count: int = 5) -> str:
    """What to do about a pattern that matches no site's name.

    Args:
        pattern: the pattern.
        names: the names there are.
        count: how many to show at most.

    Example:
        >>> nearest("haed", ["head", "encoder.0"])
        "The nearest sites are 'head'; dropkit.sites(model) lists all 2"
    """
    known = list(names)
    if not known:
        return "The model has no dropout"
    near = difflib.get_close_matches(str(pattern), known, n=count, cutoff=0.4) or known[:count]
    return f"The nearest sites are {', '.join(map(repr, near))}; dropkit.sites(model) lists all {len(known)}"
