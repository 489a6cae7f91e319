"""Rates: the one place where a probability of dropping is validated."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import torch

from dropkit.core.errors import InputError

WHOLE = 1 << 32
"""Rates are compared as integers out of this many."""


def check_rate(value: Any, name: str = "p", *, below_one: bool = False) -> float:
    """A probability of dropping as a float, or an error that says what is wrong with it.

    Args:
        value: a number in [0, 1]; a tensor with no dimensions counts as a number, a bool does not.
        name: what the caller calls it, for the message.
        below_one: whether 1 is refused too, where a variant has no meaning there.

    Raises:
        InputError: for anything else, NaN included.

    Example:
        >>> check_rate(0.1), check_rate(1)
        (0.1, 1.0)
    """
    if type(value) is float and 0.0 <= value < 1.0:  # the usual case, kept cheap: this runs at every forward
        return value
    number = number_of(value)
    if below_one and number is not None and not 0.0 <= number < 1.0:
        raise InputError(f"{name} is a number in [0, 1)", got=value, fix="Pass a float below 1, such as 0.1; 0 does nothing")
    if number is None or not 0.0 <= number <= 1.0:
        raise InputError(f"{name} is a probability of dropping: a number in [0, 1]", got=value,
                         fix="Pass a float such as 0.1; 0 keeps everything, 1 drops everything")
    return number


def is_symbolic(value: Any) -> TypeGuard[torch.Tensor]:
    """Tell whether a rate is a tensor that cannot be looked into: a compiler traces, or ``torch.vmap`` batches rates.

    Args:
        value: a rate as functions take it.

    Example:
        >>> is_symbolic(torch.tensor(0.5)), is_symbolic(0.5)
        (False, False)
    """
    return isinstance(value, torch.Tensor) and (torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(value))


def threshold(rate: float) -> int:
    """A rate as an integer out of 2^32, rounded to nearest, so that it can be compared with random bits exactly.

    Args:
        rate: in [0, 1].

    Returns:
        ``floor(rate * 2^32 + 0.5)``, in [0, 2^32].

    Example:
        >>> threshold(0.5) == 2**31, threshold(1.0) == 2**32
        (True, True)
    """
    return math.floor(rate * WHOLE + 0.5)


def number_of(value: Any) -> float | None:
    """A value as a float, or None for what is no number; bools and texts are none.

    Args:
        value: any; a tensor with no dimensions counts as a number.

    Example:
        >>> number_of(1), number_of("1")
        (1.0, None)
    """
    if isinstance(value, torch.Tensor):
        if value.dim() > 0 or value.dtype is torch.bool or value.is_complex():
            return None
        return float(value.detach())
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__") or type(value).__name__ == "bool":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # arrays with dimensions, integers beyond floats
        return None
