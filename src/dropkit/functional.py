"""Every variant of the catalog as a pure function, and `dropout_add`; use it like ``torch.nn.functional``.

Example:
    >>> import torch
    >>> import dropkit as dk
    >>> dk.functional.dropout(torch.ones(3), p=1.0)
    tensor([0., 0., 0.])
"""

from __future__ import annotations

from collections.abc import Callable as _Callable
from typing import TYPE_CHECKING

from dropkit.catalog import CATALOG as _CATALOG
from dropkit.variants.dropout import dropout_add as dropout_add

_functions = {row.function.__name__: row.function for row in _CATALOG}
globals().update(_functions)
__all__ = sorted([*_functions, "dropout_add"])


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from torch import Tensor as _Tensor

    def __getattr__(name: str) -> _Callable[..., _Tensor]: ...
