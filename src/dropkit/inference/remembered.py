"""The twin of the model that was asked last, kept for the next call: making it takes longer than many a small forward."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import is_
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from dropkit.inference.active import Active, prepare
from dropkit.inference.plain import is_plain, makes_no_calls
from dropkit.inference.twin import EMPTY, REGISTERED, twin_of
from dropkit.surgery.modules import modules_of, unwrap

_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()
"""One twin at most."""


def active_twin(model: nn.Module, inputs: Any, where: Any = "*", rates: Any = None) -> tuple[Active, Callable[[], None]]:
    """Give a twin of a model in which sites act; see `twin_of` and `prepare`.

    It is the one of the last call if that was made alike and nothing in the model has been replaced since: no attribute,
    parameter, buffer, submodule, class, or mode. Values may have changed, for parameters are shared and buffers are copied
    again. Only twins are kept that hold nothing but values which cannot change unseen.

    Args:
        model: any module.
        inputs: what it is called with.
        where: a glob of site names, a kind of sites, or several of them.
        rates: one rate for all sites that act, or rates by site name or glob.

    Returns:
        The twin, and a function that keeps it for the next call; to be called when all has gone well.

    Raises:
        InputError: see `prepare`.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> first, keep = active_twin(model, None)
        >>> keep()
        >>> active_twin(model, None)[0] is first
        True
    """
    wanted = (where, rates) if isinstance(where, str) and isinstance(rates, float | None) else None
    kept = _KEPT.pop(model, None)  # nobody else gets it meanwhile
    if kept is not None and kept.fits(model, wanted):
        return kept.renewed(), partial(_keep, model, kept)
    twin, plainly = twin_of(model)
    pairs = list(zip(modules_of(model), modules_of(twin), strict=False))
    keeps = wanted is not None and plainly and unwrap(model) is model and is_plain(twin)
    active = prepare(twin, inputs, where, rates)
    return active, partial(_keep, model, _Kept(pairs, active, wanted) if keeps and not active.watched else None)


def _keep(model: nn.Module, kept: _Kept | None) -> None:
    _KEPT.clear()
    if kept is not None:
        _KEPT[model] = kept


class _Kept:
    """A twin that can be used again, and how its model looked, which is not held itself and so can go.

    Args:
        pairs: every module of the model and its twin, as it was copied.
        active: the twin, prepared.
        wanted: which sites act, and at which rates.
    """

    def __init__(self, pairs: list[tuple[nn.Module, nn.Module]], active: Active, wanted: Any) -> None:
        self._active, self._wanted = active, wanted
        self._parts = [module for module, _ in pairs[1:]]
        self._kinds = [type(module) for module, _ in pairs]
        own = [vars(module) for module, _ in pairs]
        held = [*own, *(values[name] for values in own for name in REGISTERED)]
        self._held = [(values, tuple(values), tuple(values.values())) for values in held]
        self._empty = [value for values in own for name, value in values.items()
                       if type(value) in EMPTY and name not in REGISTERED]
        self._buffers = [(twin._buffers, name, x) for module, twin in pairs
                         for name, x in module._buffers.items() if x is not None]

    def fits(self, model: nn.Module, wanted: Any) -> bool:
        """Tell whether the same is wanted of the model, and whether it looks as it did."""
        modules = [model, *self._parts]
        return (wanted == self._wanted and list(map(type, modules)) == self._kinds and not any(self._empty)
                and all(tuple(values) == names and all(map(is_, values.values(), before))
                        for values, names, before in self._held)
                and all(map(makes_no_calls, modules)))

    def renewed(self) -> Active:
        """The twin with the values that the model's buffers have now."""
        for buffers, name, x in self._buffers:
            buffers[name] = x.clone()
        return self._active
