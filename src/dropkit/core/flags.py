"""Flags: the one place where an option that is on or off is validated."""

from __future__ import annotations

from typing import Any

from dropkit.core.errors import InputError


def check_flag(value: Any, name: str) -> bool:
    """An option that is on or off, or an error that names it: ``"no"`` would count as on.

    Args:
        value: a bool.
        name: what the caller calls it.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_flag(True, "linearised")
        True
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} is True or False", got=value, fix=f"Pass {name}=True, or leave it out")
    return value
