"""Every variant of the catalog as a pure function, and what goes with them; use it like ``torch.nn.functional``.

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
from dropkit.core.intercept import interceptable as _interceptable
from dropkit.variants.drop_connect import drop_connect_moments as drop_connect_moments
from dropkit.variants.drop_path import drop_path_add as _drop_path_add
from dropkit.variants.dropout import dropout_add as _dropout_add
from dropkit.variants.graph import edge_weights as edge_weights
from dropkit.variants.losses import r_drop_loss as r_drop_loss
from dropkit.variants.multi_sample import multi_sample_loss as multi_sample_loss
from dropkit.variants.variational import variational_kl as variational_kl

_COMPANIONS = ("drop_connect_moments", "drop_path_add", "dropout_add", "edge_weights", "multi_sample_loss", "r_drop_loss",
               "variational_kl")

drop_path_add, dropout_add = _interceptable(_drop_path_add), _interceptable(_dropout_add)
_functions = {row.function.__name__: _interceptable(row.function) for row in _CATALOG}
globals().update(_functions)
__all__ = sorted([*_functions, *_COMPANIONS])


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from torch import Tensor as _Tensor

    def __getattr__(name: str) -> _Callable[..., _Tensor]: ...
