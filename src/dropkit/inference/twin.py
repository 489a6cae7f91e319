"""A twin of a model: other modules on the same parameters, so that whatever is done to it leaves the model alone."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.modules import modules_of, unwrap

_ATOMS = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device, FunctionType, BuiltinFunctionType))
EMPTY = frozenset((dict, OrderedDict, set))
"""Kinds of containers that a plain module holds, all empty."""
REGISTERED = ("_parameters", "_buffers", "_modules")
"""Attributes that hold what `torch.nn.Module` registers."""
_MISSING = object()


def twin_of(model: nn.Module) -> tuple[nn.Module, bool]:
    """A copy of a model's modules that shares its parameters; buffers are copied, for a forward may write into them.

    Args:
        model: any module; the wrappers of ``torch.compile`` and ``DataParallel`` around it are left out.

    Returns:
        The copy, and whether all that its modules hold beside what is registered are values that do not change.

    Raises:
        InputError: for a model that cannot be copied.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> twin, plainly = twin_of(model)
        >>> twin[0] is model[0], twin[0].weight is model[0].weight, plainly
        (False, True, True)
    """
    inner = unwrap(model)
    modules = modules_of(inner)
    _check_own(inner, modules)
    try:
        memo: dict[int, Any] = {id(x): x for module in modules for x in module._parameters.values() if x is not None}
        rest = [module for module in reversed(modules) if not _copy_plain(module, memo)]  # children first
        memo.update((id(x), x) for x in _shared(rest))
    except Exception as error:
        raise _uncopyable(error) from error
    return copied(inner, memo), not rest and not any(type(x) is Tensor for module in modules for x in vars(module).values())


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of a model.

    Args:
        model: any module.
        memo: as in ``copy.deepcopy``.

    Raises:
        InputError: for a model that cannot be copied.

    Example:
        >>> copied(nn.ReLU())
        ReLU()
    """
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise _uncopyable(error) from error


def _uncopyable(error: Exception) -> InputError:
    return InputError("a model that is worked on beside itself can be copied", got=phrase(f"{type(error).__name__}: {error}"),
                      fix="Keep what cannot be copied, such as locks and files, out of the modules' attributes")


def _check_own(model: nn.Module, modules: list[nn.Module]) -> None:
    """Refuse a forward that was assigned to a module and holds on to one of the model: the twin's would run the model's."""
    assigned = [module for module in modules if "forward" in vars(module)]
    for name, module in model.named_modules() if assigned else ():
        cells = getattr(vars(module).get("forward"), "__closure__", None) or ()
        if any(isinstance(cell.cell_contents, nn.Module) and cell.cell_contents in modules for cell in cells):
            raise InputError("a model's forward finds its modules by way of self",
                             got=phrase(f"a function that was assigned to 'forward' of {name!r} and refers to a module"),
                             fix="Write it as a method, or assign types.MethodType(function, module)")


def _copy_plain(module: nn.Module, memo: dict[int, Any]) -> bool:
    """Copy a module if its attributes are plain values; ``copy.deepcopy`` takes milliseconds for some dozens."""
    own: Any = type(module)
    if not _is_copied_plainly(own):
        return False
    copied = dict(vars(module))
    copied.pop("_compiled_call_impl", None)  # of module.compile(); it runs the original
    for name, value in vars(module).items():
        kind = type(value)
        if kind in _ATOMS:
            continue
        if kind in EMPTY and not value:
            copied[name] = kind()
        elif name in REGISTERED:
            copied[name] = {key: _copied(x, memo) for key, x in value.items()}
            if any(x is _MISSING for x in copied[name].values()):
                return False
        elif kind is Tensor and value.dim() == 0 and not value.requires_grad:  # a number, such as the rate of a site
            copied[name] = _copied(value, memo)
        elif name in copied and (kind is not tuple or any(type(x) not in _ATOMS for x in value)):
            return False
    twin = memo[id(module)] = own.__new__(own)
    vars(twin).update(copied)
    return True


@functools.lru_cache(maxsize=1024)
def _is_copied_plainly(kind: Any) -> bool:
    """Whether a kind of modules is torch's, or leaves copying to Python and ``nn.Module``."""
    if kind.__module__.startswith("torch.nn.modules."):
        return True
    usual = all(getattr(kind, name) is getattr(nn.Module, name) for name in ("__reduce_ex__", "__reduce__", "__getstate__",
                                                                             "__setstate__", "__new__"))
    return usual and not hasattr(kind, "__deepcopy__") and not any("__slots__" in vars(base) for base in kind.__mro__)


def _copied(x: Any, memo: dict[int, Any]) -> Any:
    if x is None or id(x) in memo:
        return memo.get(id(x))
    if type(x) is not Tensor:
        return _MISSING
    memo[id(x)] = x.clone()
    return memo[id(x)]


def _shared(modules: list[nn.Module]) -> list[Tensor]:
    """Attributes that lie in a graph of derivatives, such as the weight of ``nn.utils.weight_norm``."""
    plain: list[Any] = []
    for module in modules:
        held = [value for name, value in vars(module).items()
                if isinstance(value, Tensor) or (type(value) in (list, tuple, dict) and name not in REGISTERED)]
        plain += [x for x in pytree.tree_leaves(held) if isinstance(x, Tensor) and not x.is_leaf] if held else []
    return plain
