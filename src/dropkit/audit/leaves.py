"""What a model returns, taken apart: also what stands in objects that PyTorch does not know how to open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

_SIMPLE = (Tensor, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, type)
_DEPTH = 4  # objects inside objects; a cache of keys and values has two


def leaves(x: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """Tensors, numbers and texts in a structure, and the objects that cannot be opened.

    Args:
        x: anything. Objects are opened by their attributes.
        depth: how far into objects.

    Example:
        >>> from types import SimpleNamespace
        >>> list(leaves({"a": [1, SimpleNamespace(b=(2, None))]}))
        [1, 2, None]
    """
    for leaf in tree_leaves(x):
        if isinstance(leaf, _SIMPLE) or not hasattr(leaf, "__dict__") or not depth:
            yield leaf
        elif not callable(leaf):
            yield from leaves(list(vars(leaf).values()), depth - 1)


def closed(x: Any) -> list[str]:
    """The classes of the objects in a structure that cannot be opened.

    Args:
        x: anything.

    Example:
        >>> closed([1, object(), {"a": object()}])
        ['object']
    """
    return sorted({type(leaf).__name__ for leaf in leaves(x) if not isinstance(leaf, _SIMPLE)})


def differ(first: Any, second: Any) -> bool | None:
    """Whether the tensors in two structures differ; None where there are none to tell by.

    Args:
        first: anything.
        second: the same at another time.

    Example:
        >>> differ(torch.ones(2), torch.zeros(2)), differ(1, 2)
        (True, None)
    """
    pairs = [[leaf for leaf in leaves(x) if isinstance(leaf, Tensor)] for x in (first, second)]
    if not pairs[0]:
        return None
    return len(pairs[0]) != len(pairs[1]) or any(
        a.shape != b.shape or not torch.allclose(a, b, equal_nan=True) for a, b in zip(*pairs, strict=True))
