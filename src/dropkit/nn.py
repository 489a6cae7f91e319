"""Every variant of the catalog as a module; use it like ``torch.nn``.

Example:
    >>> import dropkit as dk
    >>> dk.nn.Dropout(0.1)
    Dropout(p=0.1, inplace=False)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dropkit.catalog import CATALOG as _CATALOG

_modules = {row.module.__name__: row.module for row in _CATALOG}
globals().update(_modules)
__all__ = sorted(_modules)


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from torch.nn import Module as _Module

    def __getattr__(name: str) -> type[_Module]: ...
