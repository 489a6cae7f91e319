"""Modules: walk through a model, and tell which of its modules drop."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

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
    return iter(_walked(model))


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Every module once, wrappers and all: what ``model.modules()`` yields, without generators inside generators.

    Args:
        model: any module.

    Example:
        >>> modules_of(nn.Sequential(nn.ReLU()))[1:]
        [ReLU()]
    """
    found: dict[nn.Module, None] = {}
    ahead = [model]
    while ahead:
        module = ahead.pop()
        if module not in found:
            found[module] = None
            if module._modules:
                ahead += [child for child in reversed(module._modules.values()) if child is not None]
    return list(found)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.

    Args:
        module: any module.

    Example:
        >>> unwrap(nn.DataParallel(nn.ReLU()))
        ReLU()
    """
    # torch.compile's wrapper is known by its child's name: importing its class takes a second.
    while "module" in module._modules or "_orig_mod" in module._modules:  # a test that is quick for all others
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif is_compiled(module):
            module = module.get_submodule("_orig_mod")
        else:
            break
    return module


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module is what ``torch.compile`` puts around another.

    Args:
        module: any module.

    Example:
        >>> is_compiled(nn.ReLU())
        False
    """
    return "_orig_mod" in module._modules


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
    kind: Any = type(module)
    return _kind_of_type(kind)


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


@functools.lru_cache(maxsize=1024)
def _kind_of_type(kind: Any) -> str | None:
    return next((_KINDS[base] for base in kind.__mro__ if base in _KINDS), None)


def _walked(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module and its path, parents first; a list, because generators inside generators cost a model of depth its time."""
    found: dict[nn.Module, str] = {}
    ahead = [("", model)]
    while ahead:
        path, module = ahead.pop()
        if module._modules:
            module = unwrap(module)
        if module not in found:
            found[module] = path
            if module._modules:
                start = f"{path}." if path else ""
                ahead += [(start + name, child) for name, child in reversed(module._modules.items()) if child is not None]
    return [(path, module) for module, path in found.items()]
