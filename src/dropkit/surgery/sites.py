"""Find the places in a model where dropout acts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dropkit.surgery.discover import Found, discover
from dropkit.surgery.modules import kind_of, rate_attribute, walk
from dropkit.surgery.route import RoutedCall, routing_of


@dataclass(frozen=True)
class Site:
    """A place in a model where dropout acts.

    Args:
        name: the module's path in the model, empty for the model itself. For a functional call the path of the module in whose
            ``forward`` it is made, a colon and the function, with ``#1``, ``#2`` ... for further calls of that function in
            the same forward: ``"encoder.layers.0:dropout"``.
        kind: a catalog name such as ``"dropout"``, for dropkit's module or function and torch's alike; ``"attention"`` (inside
            ``nn.MultiheadAttention``), ``"recurrent"`` (between the layers of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``);
            ``"custom"`` for other kinds of ``_DropoutNd``.
        p: the rate, or the strength that a variant has in its place; NaN for a variant that has none, such as standout.
        active: whether it would drop if called now: at a rate above 0, in training mode or, for a call that does not heed the
            mode, in any.
        module: the module itself, or the one that makes the call.
        where: for a functional call its file and line, as in ``"model.py:41"``; the nearest outside torch and dropkit.
        always: whether a functional call drops in evaluation too.
        call: for a functional call its part of the name, as in ``"dropout#1"``; None for a module.
    """

    name: str
    kind: str
    p: float
    active: bool
    module: nn.Module = field(repr=False, compare=False)
    where: str | None = field(default=None, repr=False)
    always: bool = field(default=False, repr=False)
    call: str | None = field(default=None, repr=False)

    @property
    def settable(self) -> bool:
        """Whether `dk.set_rate` can set its rate: not a learned one, nor that of a call before ``dk.swap`` has found it."""
        return rate_attribute(self.module) is not None if self.call is None else self._routed() is not None

    def set_rate(self, p: float) -> None:
        """Set the rate; `dk.set_rate` does it by name.

        Args:
            p: in [0, 1]; of a site that is settable.
        """
        routed = self._routed()
        if routed is not None:
            routed.p = p
        else:
            setattr(self.module, rate_attribute(self.module) or "p", p)

    def _routed(self) -> RoutedCall | None:
        routing = None if self.call is None else routing_of(self.module)
        return None if routing is None or routing.calls is None else routing.calls.get(self.call or "")


def sites(model: nn.Module, inputs: Any = None) -> list[Site]:
    """The places in a model where dropout acts, in the order of ``model.named_modules()``.

    Modules are found by looking, functional calls by running: with ``inputs`` the model runs once in training and once in
    evaluation mode, and calls of ``F.dropout`` and its kin, ``F.scaled_dot_product_attention`` with a ``dropout_p``, and
    dropkit's functions are listed after the module in whose ``forward`` they are made. The model, its buffers, modes and
    gradients and all random states are left as they were. Without ``inputs`` the calls are listed that ``dk.swap`` has found.

    A module used in several places is listed once, under its first name. The wrappers of ``torch.compile``,
    ``DataParallel`` and ``DistributedDataParallel`` do not show in the names. A recurrent module of one layer never drops and
    is no site; of `VariationalLSTM` and its kin the children are listed, each with its rate. What a site does inside, such as
    attention's own dropout, is not listed again. Calls outside any ``forward``, in scripted modules and in branches that
    these inputs do not take are not found.

    Args:
        model: any module.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.

    Returns:
        The sites; none for a model without dropout.

    Raises:
        InputError: when ``model`` is not a module, or raises with the inputs.

    Example:
        >>> sites(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
        [Site(name='1', kind='dropout', p=0.1, active=True)]
        >>> import torch
        >>> class Net(nn.Module):
        ...     def forward(self, x):
        ...         return nn.functional.dropout(x, 0.3, self.training)
        >>> sites(nn.Sequential(Net()), torch.ones(2))
        [Site(name='0:dropout', kind='dropout', p=0.3, active=True)]
    """
    calls: dict[nn.Module, list[Site]] = {}
    if inputs is not None:
        walk(model)  # refuses what is no module
        for found in discover(model, inputs):
            calls.setdefault(found.module, []).append(_call_site(found.path, found.module, found))
    return [site for name, module in walk(model) for site in _sites_of(name, module, calls if inputs is not None else None)]


def format_sites(found: Sequence[Site]) -> str:
    """Sites as a table of plain text.

    Args:
        found: what `sites` returned.

    Example:
        >>> print(format_sites(sites(nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.25)).eval())))
        name  kind       p     active
        0     dropout    0.1   no
        1     dropout2d  0.25  no
    """
    located = any(site.where for site in found)
    rows = [["name", "kind", "p", "active", *["where"] * located]]
    for site in found:
        rate = "-" if math.isnan(site.p) else f"{site.p:g}"
        rows.append([site.name or "(model)", site.kind, rate, "yes" if site.active else "no", *[site.where or ""] * located])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines if found else ["no dropout modules"])


def _sites_of(name: str, module: nn.Module, calls: dict[nn.Module, list[Site]] | None) -> Iterator[Site]:
    if kind_of(module) is not None:
        yield _module_site(name, module)
    if calls is not None:
        yield from calls.get(module, ())
    elif (routing := routing_of(module)) is not None and routing.calls is not None:
        yield from (_call_site(name, module, call) for call in routing.calls.values())


def _module_site(name: str, module: nn.Module) -> Site:
    attribute = rate_attribute(module)
    p = float(getattr(module, attribute or "p", math.nan))  # a learned rate can be read and not set
    return Site(name, kind_of(module) or "custom", p, module.training and p != 0, module)


def _call_site(path: str, module: nn.Module, call: Found | RoutedCall) -> Site:
    acts = call.training if module.training else call.always
    return Site(f"{path}:{call.key}", call.kind, call.p, acts and call.p != 0, module, call.where, call.always, call.key)
