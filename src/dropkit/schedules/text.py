"""Schedules from text such as ``cosine(0.5, 0.1)``, read without running any of it."""

from __future__ import annotations

import ast
import difflib
import inspect
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.schedules.base import Schedule, as_schedule
from dropkit.schedules.combined import at_depth, join, warm_up
from dropkit.schedules.published import annealed, curriculum, early, late
from dropkit.schedules.shapes import constant, cosine, cyclic, exponential, linear, piecewise, step

SCHEDULES: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (
    constant, linear, cosine, exponential, step, piecewise, cyclic, curriculum, annealed, early, late, warm_up, join, at_depth)}
"""Every schedule by its name, simple ones first."""

_LONGEST = 10_000  # characters; a run has a handful of pieces
_EXAMPLE = 'Write one such as "cosine(0.5, 0.1)"; `dropkit schedule --list` shows all'


def parse(text: str) -> Schedule:
    """Read a schedule from its text, the inverse of ``repr``.

    Only names of schedules, numbers, quoted words, ``None`` and lists are read, nested as they are when written in Python. A
    number alone is a constant schedule.

    Args:
        text: such as ``"warm_up(linear(0.3, 0.1), 100)"``.

    Raises:
        InputError: for text that is no schedule, an unknown name, arguments that do not fit or values out of range.

    Example:
        >>> parse("join([linear(0, 0.5), 0.5], [100])")
        join([linear(0.0, 0.5, steps=100), constant(0.5)], [100])
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise InputError(f"a schedule's text is a str of at most {_LONGEST} characters", got=text, fix=_EXAMPLE)
    try:
        return as_schedule(_value(ast.parse(text.strip(), mode="eval").body), "a schedule's text")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested hundreds deep
        if isinstance(error, InputError):
            raise
        raise InputError("a schedule is written as a call", got=text, fix=_EXAMPLE) from None


def read_schedule(value: Any) -> Schedule:
    """A schedule from whatever stands for one: itself, its text, or a rate.

    Args:
        value: a schedule, text for `parse`, or a number.

    Raises:
        InputError: for anything else.

    Example:
        >>> read_schedule("annealed(0.5)"), read_schedule(0.1)
        (annealed(0.5), constant(0.1))
    """
    return parse(value) if isinstance(value, str) else as_schedule(value)


def signature(kind: type[Schedule]) -> str:
    """How a schedule is written.

    Args:
        kind: one of `SCHEDULES`.

    Example:
        >>> signature(linear)
        'linear(start, end, steps=None)'
    """
    parameters = inspect.signature(kind).parameters.values()
    shown = (p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)
    return f"{kind.__name__}({', '.join(shown)})"


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() | None as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_value(entry) for entry in entries]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _make(_kind(name), args, keywords)
        case ast.Name(id=name) if name in SCHEDULES:
            raise InputError("a schedule is written with its values", got=phrase(name),
                             fix=f"Write {signature(SCHEDULES[name])}")
        case ast.Name(id=name):
            _kind(name)
    raise InputError("a schedule's text has names of schedules, numbers, quoted words, None and lists",
                     got=phrase(ast.unparse(node)), fix=_EXAMPLE)


def _make(kind: type[Schedule], args: list[ast.expr], keywords: list[ast.keyword]) -> Schedule:
    values = [_value(arg) for arg in args]
    named = {keyword.arg or "**": _value(keyword.value) for keyword in keywords}
    try:
        bound = inspect.signature(kind).bind(*values, **named)
    except TypeError as error:
        raise InputError(f"{kind.__name__} takes other arguments: {error}", fix=f"Write {signature(kind)}",
                         got=phrase(f"{len(values)} positional and {', '.join(named) or 'none'} by name")) from None
    return kind(*bound.args, **bound.kwargs)


def _kind(name: str) -> type[Schedule]:
    if name in SCHEDULES:
        return SCHEDULES[name]
    near = difflib.get_close_matches(name.lower(), SCHEDULES, n=3, cutoff=0.5)
    fix = f"The nearest are {', '.join(near)}" if near else f"There are {', '.join(SCHEDULES)}"
    raise InputError("the name of a schedule is a known one", got=name, fix=fix)
