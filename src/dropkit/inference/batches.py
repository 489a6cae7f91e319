"""The inputs of a prediction: one batch, or a loader of several."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from dropkit.core.errors import InputError


def batches(inputs: Any) -> Iterator[Any]:
    """The batches, as `dropkit.surgery.calls.call_model` takes them.

    Args:
        inputs: a tensor, a tuple or list of arguments, a mapping of keyword arguments; or another iterable, such as a
            ``DataLoader``, of batches. Of a batch that is a tuple or list the first entry is the data.

    Raises:
        InputError: for inputs of another kind.

    Example:
        >>> import torch
        >>> len(list(batches(torch.ones(2)))), len(list(batches(iter([(torch.ones(2), 1), (torch.ones(2), 0)]))))
        (1, 2)
    """
    if isinstance(inputs, Tensor | Mapping | tuple | list | PackedSequence):
        yield inputs
    elif isinstance(inputs, Iterable) and not isinstance(inputs, str | bytes | nn.Module):
        for batch in inputs:
            yield batch[0] if isinstance(batch, tuple | list) and not isinstance(batch, PackedSequence) else batch
    else:
        raise InputError("inputs are a tensor, a tuple, a mapping, or an iterable of batches", got=inputs,
                         fix="Wrap a single argument of another type in a tuple")


def rows_in(batch: Any) -> int | None:
    """How many examples a batch has, or None where that cannot be told: where its tensors differ in their first dimension.

    Args:
        batch: as `dropkit.surgery.calls.call_model` takes it.

    Example:
        >>> import torch
        >>> rows_in((torch.ones(4, 2), torch.ones(4))), rows_in((torch.ones(4, 2), torch.ones(2, 9)))
        (4, None)
    """
    values = list(batch.values()) if isinstance(batch, Mapping) else list(batch) if type(batch) in (tuple, list) else [batch]
    if any(not isinstance(x, Tensor | bool | int | float | str | None) for x in values):
        return None
    sizes = {x.shape[0] if x.dim() else 0 for x in values if isinstance(x, Tensor)}
    return sizes.pop() or None if len(sizes) == 1 else None


def shown(inputs: Any, progress: bool) -> Iterator[Any]:
    """Batches with a bar on the standard error stream while they are worked off.

    Args:
        inputs: as in `batches`.
        progress: whether to show it.
    """
    total = _count(inputs) if progress else None
    for index, batch in enumerate(batches(inputs)):
        if progress:
            _show(index, total)
        yield batch
    if progress:
        sys.stderr.write("\n")


def _count(inputs: Any) -> int | None:
    if isinstance(inputs, Tensor | Mapping | tuple | list | PackedSequence):
        return 1
    try:
        return len(inputs)
    except TypeError:  # an iterator, or a loader of an iterable data set
        return None


def _show(done: int, total: int | None, width: int = 30) -> None:
    filled = width * done // total if total else 0
    bar = f"[{'#' * filled}{'.' * (width - filled)}] " if total else ""
    sys.stderr.write(f"\rmc_predict: {bar}batch {done + 1}{f' of {total}' if total else ''}")
    sys.stderr.flush()
