"""Warnings that point at the user's line, however deep in dropkit they arise."""

from __future__ import annotations

import sys
import warnings

_INNER = ("dropkit", "torch", "contextlib", "functools")


def notify(message: str, kind: type[Warning] = UserWarning) -> None:
    """Warn, and name the nearest line outside dropkit and what calls for it.

    Args:
        message: what is the matter, and what to do.
        kind: of the warning.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     notify("the rate jumps")
        >>> str(caught[0].message)
        'the rate jumps'
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INNER:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)
