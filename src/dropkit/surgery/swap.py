"""Swap torch's dropout for dropkit's and back."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError, phrase
from dropkit.surgery.discover import Found, discover
from dropkit.surgery.modules import kind_of, walk
from dropkit.surgery.recurrent import (
    check_recurrent,
    check_unswappable,
    report_idle,
    swap_recurrent,
    unswap_recurrent,
)
from dropkit.surgery.route import Routing, check_routable, route, routed_calls, routing_of, unroute
from dropkit.surgery.streams import name_streams
from dropkit.variants.site import DropoutSite, StreamSite

_Model = TypeVar("_Model", bound=nn.Module)
_TO_DROPKIT: dict[type[nn.Module], type[DropoutSite]] = {
    row.torch_twin: row.module for row in CATALOG if row.torch_twin is not None and issubclass(row.module, DropoutSite)}
_TO_TORCH: dict[type[nn.Module], type[nn.Module]] = {ours: twin for twin, ours in _TO_DROPKIT.items()}


def swap(model: _Model, to: str = "dropkit", *, inputs: Any = None, recurrent: str = "step") -> _Model:
    """Put a model's dropout on dropkit's masks, or back on torch's, in place.

    Torch's dropout modules become dropkit's by a change of their class. ``nn.MultiheadAttention``, also inside transformer
    layers, subclasses of torch's dropout modules and other ``_DropoutNd`` keep their own ``forward``, which is routed: the
    dropout functions that it calls draw dropkit's masks. With ``inputs`` the functional calls of the rest of the model are
    found (see `dk.sites`) and routed too; `dk.sites` then lists them without inputs and `dk.set_rate` sets their rates. All
    masks then follow ``dk.keyed`` and ``torch.manual_seed``, each site with a stream of its own.

    The modules stay the same objects: hooks, sharing, references, rates, training modes, the names of their classes and the
    model's ``state_dict`` are untouched, and so is every result in evaluation. Swapped models can be copied, pickled and
    compiled; what was compiled before compiles again. Swap again after adding dropout to a model.

    ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` of several layers become dropkit's variational ones with the site
    ``between_dropout``. Of one with a single layer and a rate, which never drops, a warning tells.

    Args:
        model: any module.
        to: ``"dropkit"``, which also names every site's stream by its path, or ``"torch"``, which undoes everything.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        recurrent: how masks between the layers of recurrent modules are drawn: anew at each ``"step"``, as torch does, or
            once for a ``"sequence"``; then modules of one layer are swapped, too, and all get sites at rate 0 for inputs,
            states and outputs (``input_dropout``, ``recurrent_dropout``, ``output_dropout``), which `dk.set_rate` sets.

    Returns:
        The model.

    Raises:
        InputError: for another ``to`` or ``recurrent``; when the model raises with the inputs; for a module that cannot be
            routed (scripted, parametrised, its ``forward`` replaced, or checkpointing a part of it that drops); on the way to
            torch when a site has a setting or a rate that torch's lacks. Nothing is changed then.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
        >>> type(swap(model)[1]).__module__
        'dropkit.variants.dropout'
        >>> type(swap(model, to="torch")[1]) is nn.Dropout
        True
    """
    if to not in ("dropkit", "torch"):
        raise InputError('to is "dropkit" or "torch"', got=to, fix='Pass to="torch" to go back')
    if to == "torch":
        _to_torch(model)
        return model
    check_recurrent(recurrent)
    routings = _routings(model, [] if inputs is None else discover(model, inputs))
    report_idle(model)
    for module, routing in routings:
        route(module, routing)
    for _, module in walk(model):
        ours = _TO_DROPKIT.get(type(module))
        if ours is not None:
            p = vars(module).pop("p")
            module.__class__ = ours
            module.p = p  # dropkit's is a property that also keeps the rate as a tensor
    swap_recurrent(model, recurrent)
    return name_streams(model)


def _routings(model: nn.Module, found: list[Found]) -> list[tuple[nn.Module, Routing]]:
    """What has to be routed: the modules that make functional calls, and sites that are neither ours nor torch's own."""
    calls: dict[nn.Module, list[Found]] = {}
    for call in found:
        calls.setdefault(call.module, []).append(call)
        if call.recomputed:
            raise InputError("what a checkpoint recomputes is routed again", fix="Checkpoint a whole module, as in "
                             "checkpoint(self.block, x, use_reentrant=False), or turn checkpointing off while swapping",
                             got=phrase(f"the site '{call.path}:{call.key}' in a part of its module's forward"))
    routings = []
    for name, module in walk(model):
        if isinstance(module, torch.jit.ScriptModule):
            check_routable(name, module)
        before = routing_of(module)
        if module in calls:
            routings.append((module, routed_calls(name, calls[module], before)))
        elif before is None and _is_foreign_site(module):
            attends = isinstance(module, nn.MultiheadAttention)  # whose fused kernel for evaluation takes no mode
            routings.append((module, Routing(name, None, not attends)))
        else:
            continue
        if before is None:
            check_routable(name, module)
    return routings


def _is_foreign_site(module: nn.Module) -> bool:
    foreign = not isinstance(module, StreamSite | nn.RNNBase) and type(module) not in _TO_DROPKIT
    return foreign and kind_of(module) is not None


def _to_torch(model: nn.Module) -> None:
    modules = list(walk(model))
    ours = [(name, module) for name, module in modules if isinstance(module, DropoutSite) and type(module) in _TO_TORCH]
    routed = [(name, module) for name, module in modules if routing_of(module) is not None]
    check_unswappable(model)
    for name, module in ours:
        _check_settings(name, module)
    for name, owner in routed:
        _check_routed(name, owner)
    for _, owner in routed:
        unroute(owner)
    for _, module in ours:
        p, twin = module.p, _TO_TORCH[type(module)]
        plain: nn.Module = module
        for setting in ("stream", "_p", "rate", *module.extras):
            vars(module).pop(setting, None)
        plain.__class__ = twin
        vars(plain)["p"] = p
    unswap_recurrent(model)


def _check_settings(name: str, module: DropoutSite) -> None:
    for setting, default in module.extras.items():
        value = getattr(module, setting)
        if value != default:
            raise InputError(f"torch's {type(module).__name__} has no {setting}",
                             got=phrase(f"{setting}={value!r} at site {name!r}"),
                             fix=f"Set it to {default!r} first, or keep dropkit's module")


def _check_routed(name: str, module: nn.Module) -> None:
    if "parametrizations" in module._modules:
        raise InputError("a routed module goes back to torch as it was swapped",
                         got=phrase(f"a parametrised module at {name!r}"),
                         fix="Remove its parametrisations first and register them again afterwards")
    for call in ((routing_of(module) or Routing("", None, False)).calls or {}).values():
        if call.is_set:
            raise InputError("torch's functions take their rate from the code that calls them",
                             got=phrase(f"a rate of {call.p} that was set at site '{name}:{call.key}'"),
                             fix=f"Set it to the code's own first, {call.called}")
