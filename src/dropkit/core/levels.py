"""Levels of intervals and precisions of noise: the one place where they are validated."""

from __future__ import annotations

import math
from typing import Any

from dropkit.core.errors import InputError
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
