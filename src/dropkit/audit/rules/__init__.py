"""The rules of the audit, one file each; a file ``dk101.py`` defines ``RULE``."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from dropkit.audit.rule import Rule


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Every rule, by id.

    Example:
        >>> all(rule.id.startswith("DK") for rule in rules())
        True
    """
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name.startswith("dk"))
    return tuple(importlib.import_module(f"{__name__}.{name}").RULE for name in names)
