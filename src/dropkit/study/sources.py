"""Code as text, by which a change of it is noticed."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

_DEEP = 6  # functions that hold functions are followed this far, so that one that holds itself ends


def source_of(thing: Any) -> str:
    """Return the source of a class or callable, or its name where there is none.

    Args:
        thing: anything; of a partial function the arguments belong to it.

    Example:
        >>> source_of(len)
        'len'
    """
    if isinstance(thing, functools.partial):
        return f"{source_of(thing.func)} {thing.args!r} {sorted(thing.keywords.items())!r}"
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # typed in at a prompt, or not written in Python
        return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def source_and_values(thing: Any) -> str:
    """Return the `source_of` a callable with the numbers and texts that it has from an enclosing function.

    Other things that it holds may change by its being called, and say nothing of whether it is the same.

    Args:
        thing: a callable.

    Example:
        >>> def by(factor):
        ...     return lambda outputs, targets: factor * (outputs - targets).abs().mean()
        >>> source_and_values(by(2)) == source_and_values(by(2)), source_and_values(by(2)) == source_and_values(by(3))
        (True, False)
    """
    held = _held(thing) if isinstance(thing, types.FunctionType) else {}
    plain = {name: value for name, value in held.items() if isinstance(value, (bool, int, float, str))}
    return source_of(thing) + (f" {sorted(plain.items())}" if plain else "")


def identity_of(thing: Any) -> str:
    """Return 16 hexadecimal digits that change with a callable's source, and with the plain values and arrays that it holds.

    What it holds are the defaults of its arguments, the variables of an enclosing function, a partial's arguments and an
    object's attributes. Global variables and helpers that it calls by their global name are not looked at.

    Args:
        thing: a callable.

    Example:
        >>> def by(factor):
        ...     return lambda x, generator: x * factor
        >>> identity_of(by(2)) == identity_of(by(2)), identity_of(by(2)) == identity_of(by(3))
        (True, False)
    """
    return hashlib.sha256(_text(thing, _DEEP).encode()).hexdigest()[:16]


def _text(value: Any, depth: int) -> str:
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, range)):
        return repr(value)
    if isinstance(value, (Tensor, np.ndarray)):
        array = np.ascontiguousarray(value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if depth == 0:
        return type(value).__qualname__
    if isinstance(value, Mapping):
        pairs = (f"{_text(key, depth - 1)}: {_text(held, depth - 1)}" for key, held in value.items())
        return "{" + ", ".join(sorted(pairs)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(held, depth - 1) for held in value) + "]"
    if isinstance(value, (set, frozenset)):  # whose order changes from process to process
        return "{" + ", ".join(sorted(_text(held, depth - 1) for held in value)) + "}"
    return _of_code(value, depth - 1)


def _of_code(thing: Any, depth: int) -> str:
    if isinstance(thing, functools.partial):
        return f"{_text(thing.func, depth)} {_text(thing.args, depth)} {_text(thing.keywords, depth)}"
    if isinstance(thing, types.MethodType):
        return f"{source_of(thing)} {_text(thing.__self__, depth)}"
    if isinstance(thing, types.FunctionType):
        return f"{source_of(thing)}{_constants(thing.__code__)} {_text(_held(thing), depth)}"
    if isinstance(thing, (type, types.BuiltinFunctionType, types.ModuleType)):
        return source_of(thing) if isinstance(thing, type) else thing.__name__
    return f"{source_of(type(thing))} {_text(getattr(thing, '__dict__', {}), depth)}"


def _held(function: types.FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    known = {}
    for name, cell in cells:
        try:
            known[name] = cell.cell_contents
        except ValueError:  # not yet set
            known[name] = None
    return {**known, "defaults": function.__defaults__, "by name": function.__kwdefaults__}


def _constants(code: types.CodeType) -> str:
    """Where there is no source: a function typed in at a prompt is still told from another of its name."""
    plain = [held for held in code.co_consts if not isinstance(held, types.CodeType)]
    inner = [_constants(held) for held in code.co_consts if isinstance(held, types.CodeType)]
    return f"{code.co_code.hex()} {code.co_names} {plain!r} {inner}"
