"""Find the places in a model where dropout acts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError

_KINDS: dict[type[nn.Module], str | None] = {
    **{row.module: None if row.claims.holds_sites else row.name for row in CATALOG},
    **{row.torch_twin: row.name for row in CATALOG if row.torch_twin is not None},
    _DropoutNd: "custom",
    nn.MultiheadAttention: "attention",
    nn.RNNBase: "recurrent",
}
_RATES: dict[type[nn.Module], str | None] = {row.module: row.claims.rate for row in CATALOG}


@dataclass(frozen=True)
class Site:
    """A place in a model where dropout acts.

    Args:
        name: the module's path in the model; empty for the model itself.
        kind: a catalog name such as ``"dropout"``, for dropkit's module and torch's alike; ``"attention"`` (inside
            ``nn.MultiheadAttention``), ``"recurrent"`` (between the layers of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``);
            ``"custom"`` for other kinds of ``_DropoutNd``.
        p: the rate, or the strength that a variant has in its place; NaN for a variant that has none, such as standout.
        active: whether it would drop if called now: in training mode, at a rate above 0.
        module: the module itself.
    """

    name: str
    kind: str
    p: float
    active: bool
    module: nn.Module = field(repr=False, compare=False)


def sites(model: nn.Module) -> list[Site]:
    """The modules of a model that drop, in the order of ``model.named_modules()``.

    A module used in several places is listed once, under its first name. The wrappers of ``torch.compile``,
    ``DataParallel`` and ``DistributedDataParallel`` do not show in the names. Calls of ``F.dropout`` inside a ``forward``
    are no modules and not found; nor is a recurrent module of one layer, which never drops. Of `VariationalLSTM` and its kin
    the children are listed, each with its rate.

    Args:
        model: any module.

    Returns:
        The sites; none for a model without dropout.

    Raises:
        InputError: when ``model`` is not a module.

    Example:
        >>> sites(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
        [Site(name='1', kind='dropout', p=0.1, active=True)]
    """
    return [_site(name, module) for name, module in walk(model) if kind_of(module) is not None]


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
    rows = [("name", "kind", "p", "active")]
    for site in found:
        rate = "-" if math.isnan(site.p) else f"{site.p:g}"
        rows.append((site.name or "(model)", site.kind, rate, "yes" if site.active else "no"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines if found else ["no dropout modules"])


def walk(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module once with its path, wrappers left out of both.

    Args:
        model: any module.

    Raises:
        InputError: when ``model`` is not a module.

    Example:
        >>> [name for name, _ in walk(nn.DataParallel(nn.Sequential(nn.ReLU())))]
        ['', '0']
    """
    if not isinstance(model, nn.Module):
        raise InputError("a model is a torch.nn.Module", got=model, fix="Pass the module, not its class or output")
    return _walk(model, "", set())


def kind_of(module: nn.Module) -> str | None:
    """The kind of site that a module is, or ``None``.

    Args:
        module: any module.

    Example:
        >>> kind_of(nn.Dropout()), kind_of(nn.Linear(1, 1)), kind_of(nn.LSTM(1, 1))
        ('dropout', None, None)
    """
    if isinstance(module, nn.RNNBase) and module.num_layers < 2:
        return None
    return next((_KINDS[base] for base in type(module).__mro__ if base in _KINDS), None)


def rate_attribute(module: nn.Module) -> str | None:
    """The attribute that holds a site's rate, or ``None`` where it cannot be set.

    Args:
        module: a module that is a site.

    Example:
        >>> rate_attribute(nn.Dropout()), rate_attribute(nn.LSTM(1, 1, num_layers=2))
        ('p', 'dropout')
    """
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return "dropout"
    return next((_RATES[base] for base in type(module).__mro__ if base in _RATES), "p")


def _site(name: str, module: nn.Module) -> Site:
    attribute = rate_attribute(module)
    p = float(getattr(module, attribute or "p", math.nan))  # a learned rate can be read and not set
    return Site(name, kind_of(module) or "custom", p, module.training and p != 0, module)


def _walk(module: nn.Module, path: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    module = _unwrap(module)
    if module in seen:
        return
    seen.add(module)
    yield path, module
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


def _unwrap(module: nn.Module) -> nn.Module:
    # torch.compile's wrapper is known by its child's name: importing its class takes a second.
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif "_orig_mod" in module._modules:
            module = module.get_submodule("_orig_mod")
        else:
            return module
