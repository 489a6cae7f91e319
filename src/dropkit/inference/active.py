"""Which sites of a model act while it is evaluated, and at which rates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.core.errors import InputError, phrase
from dropkit.core.notices import notify
from dropkit.core.rates import check_rate
from dropkit.inference.plain import is_plain
from dropkit.inference.probe import Probed, probe, unknown_in
from dropkit.surgery.modules import kind_of, modules_of, rate_attribute, walk
from dropkit.surgery.rates import nearest
from dropkit.surgery.route import routing_of, unroute
from dropkit.surgery.streams import name_streams
from dropkit.surgery.swap import swap
from dropkit.variants.multi_sample import MultiSampleDropout
from dropkit.variants.recurrent_swap import is_variational
from dropkit.variants.site import StreamSite

UNKNOWN = "random"
"""The kind of a module that draws random numbers in training and may be no dropout; a glob does not choose it."""

_FAMILIES = {"attention": ("attention", "attention_dropout", "scaled_dot_product_attention")}
"""A kind that stands for others, too: attention drops its weights inside torch's module, by a function, or by a module."""


@dataclass
class Active:
    """What acts in a model that has been prepared for it.

    Args:
        model: the model, in evaluation mode but for what acts.
        modules: the modules that act.
        calls: the rates of the functional calls that act, by module and by the call's key; None where they do not act.
        names: the sites that act, in the order of the model.
        watched: whether functional calls have to be answered by `Acting`; otherwise the modules see to themselves.
    """

    model: nn.Module
    modules: set[nn.Module] = field(default_factory=set)
    calls: dict[tuple[nn.Module, str], float | None] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    watched: bool = False


@dataclass
class _Candidate:
    """A site that may act."""

    module: nn.Module
    kind: str
    p: float
    call: Probed | None = None


def prepare(twin: nn.Module, inputs: Any, where: Any = "*", rates: Any = None) -> Active:
    """Make sites of a model act, and nothing else: the rest stays in evaluation mode.

    Modules that are sites are set to training mode, they alone. Functional calls are told to drop when they are made, at the
    rate that they have in training; only where a call is not made at all in evaluation is the module that makes it set to
    training mode, without its children.

    Args:
        twin: the model, which is changed for good.
        inputs: what it is called with, to find functional calls.
        where: a glob of site names, a kind of sites, or several of them. Modules that draw random numbers in training and are
            no dropout that dropkit knows act where their kind, `UNKNOWN`, or their own name is given; where neither is and
            ``where`` is the default, a warning tells of them.
        rates: one rate for all sites that act, or rates by site name or glob.

    Raises:
        InputError: for a pattern that matches no site, a rate that a site refuses, or no site that acts.

    Example:
        >>> prepare(nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)), None).names
        ['1']
    """
    modules = list(walk(twin))
    known = _routed_rates(modules)
    found = {name: _Candidate(module, kind, _rate_of(module)) for name, module in modules
             if (kind := kind_of(module)) is not None}
    plain = is_plain(twin)  # then there are neither calls nor strangers
    for call in [] if plain else probe(twin, inputs):
        p = known.get((call.module, call.key), call.p)
        found[f"{call.path}:{call.key}"] = _Candidate(call.module, call.kind, p, call)
    unknown = {} if plain else unknown_in(twin, inputs)
    found |= {name: _Candidate(module, UNKNOWN, math.nan) for name, module in unknown.items() if name not in found}
    chosen = _chosen(found, where)
    if where == "*":  # who names the sites has thought of them
        _warn_of_unknown([name for name, site in found.items() if site.kind == UNKNOWN])
    _set_rates(found, _resolved(rates, [name for name in chosen if found[name].kind != UNKNOWN]))
    swapped = _on_our_masks(twin)
    calls = {(site.module, site.call.key): None for site in found.values() if site.call is not None}
    active = Active(evaluated(twin), calls=dict(calls))
    for name in chosen:
        _activate(active, name, found[name])
    active.watched = bool(active.calls) or not swapped or _unroute_idle(modules, active.modules)
    if not active.names:
        raise InputError("at least one site acts", got=phrase(_described(found, chosen)),
                         fix="Give it a rate, as in rates=0.1, or put dropout into the model and train it so")
    for _, module in modules:
        if isinstance(module, nn.TransformerEncoderLayer) and type(module).forward is nn.TransformerEncoderLayer.forward:
            module.training = True  # else it takes a fused path that leaves dropout out; it asks for the mode nowhere else
    return active


def _warn_of_unknown(names: list[str]) -> None:
    if names:
        shown = ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
        notify(f"the model draws random numbers in training in a way that dropkit does not know, at {shown}. These do not "
               f'act. If they are dropout, such as another library\'s, pass where=["*", "{UNKNOWN}"]; if not, pass '
               'where=["*"]')


def evaluated(model: nn.Module) -> nn.Module:
    """Set a model to evaluation mode; quickly, where none of its modules has its own way to.

    Args:
        model: any module.

    Example:
        >>> evaluated(nn.ReLU()).training
        False
    """
    modules = modules_of(model)
    if any(type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval for module in modules):
        return model.eval()
    for module in modules:
        vars(module)["training"] = False  # no attribute that nn.Module registers
    return model


def _routed_rates(modules: list[tuple[str, nn.Module]]) -> dict[tuple[nn.Module, str], float]:
    """Rates that were set of calls that ``dk.swap`` has routed; their modules get their own forward back."""
    rates: dict[tuple[nn.Module, str], float] = {}
    for _, module in modules:
        routing = routing_of(module)
        if routing is not None:
            rates.update({(module, key): call.p for key, call in (routing.calls or {}).items() if call.is_set})
            unroute(module)
    return rates


def _rate_of(module: nn.Module) -> float:
    return float(getattr(module, rate_attribute(module) or "p", math.nan))


def _chosen(found: Mapping[str, _Candidate], where: Any) -> list[str]:
    patterns = [where] if isinstance(where, str) else list(where) if isinstance(where, Iterable) else [None]
    chosen: set[str] = set()
    if not patterns:
        raise InputError("where names at least one site", got=where, fix='Pass a glob, or "*" for all sites')
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError("where is a glob of site names, a kind of sites, or a sequence of them", got=where,
                             fix='Pass a str such as "encoder.*" or "attention"')
        kind = pattern.removeprefix("kind:")
        names = {name for name, site in found.items() if site.kind in _FAMILIES.get(kind, (kind,)) or name == pattern
                 or (site.kind != UNKNOWN and fnmatchcase(name, pattern))}
        if not names and pattern != "*":
            kinds = ", ".join(sorted({repr(site.kind) for site in found.values()}))
            raise InputError("where matches a site by its name or kind", got=pattern,
                             fix=nearest(pattern, found) + (f"; kinds are {kinds}" if kinds else ""))
        chosen |= names
    return [name for name in found if name in chosen]


def _resolved(rates: Any, names: list[str]) -> dict[str, float]:
    """The rates that are set, by site: the last glob that matches counts, and a site's own name above all."""
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        return dict.fromkeys(names, check_rate(rates, "rates"))
    resolved: dict[str, float] = {}
    for pattern in sorted(rates, key=lambda pattern: pattern in names):
        matched = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, str(pattern))]
        if not matched:
            raise InputError("every pattern of rates matches a site that is to act", got=pattern, fix=nearest(pattern, names))
        resolved.update(dict.fromkeys(matched, check_rate(rates[pattern], f"the rate of {pattern!r}")))
    return resolved


def _set_rates(found: Mapping[str, _Candidate], rates: Mapping[str, float]) -> None:
    for name, rate in rates.items():
        site = found[name]
        site.p = rate
        attribute = None if site.call is not None else rate_attribute(site.module)
        if site.call is None and attribute is None:
            raise InputError("a rate that is set belongs to a site with one", got=phrase(f"the {site.kind} at {name!r}"),
                             fix="Leave it out of rates; it learns its rate or has none")
        if attribute is not None:
            setattr(site.module, attribute, rate)


def _activate(active: Active, name: str, site: _Candidate) -> None:
    module = site.module
    if site.p != 0:
        active.names.append(name)
    if site.call is not None:
        active.calls[module, site.call.key] = site.p
        module.training |= not site.call.in_evaluation
        return
    if is_variational(module):
        module = module.get_submodule("between_dropout")  # which `swap` has made of torch's
    if isinstance(module, _DropoutNd):
        module.inplace = False  # what comes before may be computed once for all passes
    if isinstance(module, MultiSampleDropout):
        module.samples, module.average = 1, "logits"  # one sample a pass
    active.modules.add(module)
    module.training = True


def _on_our_masks(model: nn.Module) -> bool:
    """Swap a model's modules; False where one cannot be routed. Streams that a user has named keep their names."""
    named = [(module, module.stream) for _, module in walk(model)
             if isinstance(module, StreamSite) and module.stream is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of recurrent modules of one layer, which are no sites
        try:
            swap(model)
            swapped = True
        except InputError:
            name_streams(model)
            swapped = False
    for module, stream in named:
        module.stream = stream
    return swapped


def _unroute_idle(modules: list[tuple[str, nn.Module]], acting: set[nn.Module]) -> bool:
    """Give sites that do not act their own forward back, where they might drop without a mode; tell whether there are any."""
    idle = [module for _, module in modules if module not in acting and (routing := routing_of(module)) is not None
            and routing.in_evaluation]
    for module in idle:
        unroute(module)
    return bool(idle)


def _described(found: Mapping[str, _Candidate], chosen: list[str]) -> str:
    if not chosen:
        return "a model without dropout that dropkit knows"
    shown = [f"{name or '(model)'} at rate {found[name].p:g}" for name in chosen[:8]]
    return ", ".join(shown) + (", ..." if len(chosen) > 8 else "")
