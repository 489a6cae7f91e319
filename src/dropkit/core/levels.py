"""Levels of intervals and precisions of noise: the one place where they are validated."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import number_of


def check_level(value: Any, *, one: bool = False) -> float:
    """A probability that is neither 0 nor 1 as a float, or an error that says what is wrong with it.

    Args:
        value: a number in (0, 1).
        one: whether 1 is a level, too.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_level(0.95)
        0.95
    """
    number = number_of(value)
    if number is None or not (0.0 < number < 1.0 or (one and number == 1.0)):
        raise InputError(f"level is a probability in (0, 1{']' if one else ')'}", got=value, fix="Pass a float such as 0.95")
    return number


def check_precision(value: Any) -> float:
    """A precision as a float, or an error that says what is wrong with it.

    Args:
        value: a finite number above 0.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_precision(4)
        4.0
    """
    number = number_of(value)
    if number is None or not 0.0 < number < math.inf:
        raise InputError("tau is a precision above 0", got=value, fix="Pass one over the variance of the noise")
    return number


def check_variance(value: Any, like: Tensor) -> Tensor:
    """A variance as a tensor that can be added to another, or an error that says what is wrong with it.

    Args:
        value: numbers of at least 0.
        like: of the shape, type and device that is wanted; ``value`` may have fewer dimensions, or 1 where it has more.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_variance(0.5, torch.zeros(2))
        tensor([0.5000, 0.5000])
    """
    try:
        found = torch.as_tensor(value).to(like).expand_as(like)
    except (TypeError, ValueError, RuntimeError) as error:
        said = phrase(f"shape {tuple(value.shape)}") if isinstance(value, Tensor) else value
        raise InputError(f"noise is a variance for each of the shape {tuple(like.shape)}, or one for all", got=said,
                         fix="Pass a number, or a tensor of that shape") from error
    if bool((found < 0).any()):
        raise InputError("noise is a variance of at least 0", got=phrase(f"{float(found.min()):g}"),
                         fix="Pass a variance; of its logarithm, the exponential")
    return found
