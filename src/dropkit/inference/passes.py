"""Passes: which there are, and the seed of each."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.philox import DERIVE_SEED, WORD, key_words
from dropkit.core.seeds import check_integer
from dropkit.kernels.reference import philox4x32


def pass_indices(passes: Any) -> tuple[int, ...]:
    """The numbers of the passes that a user asks for.

    Args:
        passes: how many, counted from 0, or their numbers, such as ``range(50, 100)``.

    Raises:
        InputError: for no pass, or anything that is no number of a pass.

    Example:
        >>> pass_indices(3), pass_indices([7])
        ((0, 1, 2), (7,))
    """
    if isinstance(passes, Iterable) and not isinstance(passes, str | bytes | Tensor):
        found = tuple(check_integer(index, "a pass", 32) for index in passes)
        if len(set(found)) < len(found):
            raise InputError("each pass is asked for once", got=passes, fix="Remove the repeated ones")
    else:
        found = tuple(range(_count(passes)))
    if not found:
        raise InputError("there is at least one pass", got=passes, fix="Pass a number such as passes=50")
    return found


@functools.lru_cache(maxsize=4)
def pass_seeds(seed: int, step: int, indices: tuple[int, ...]) -> Tensor:
    """The seeds with which ``dk.keyed(seed, step, pass_index=k)`` makes its masks, one a pass.

    Args:
        seed: in [0, 2^64).
        step: in [0, 2^64).
        indices: the passes.

    Returns:
        An int64 CPU tensor with one dimension, not to be written into.

    Example:
        >>> pass_seeds(0, 0, (0, 1)).shape
        torch.Size([2])
    """
    number = torch.tensor(tuple(indices), dtype=torch.int64)
    even = torch.stack((torch.full_like(number, step & WORD), number))
    odd = torch.stack((torch.full_like(number, step >> 32), torch.full_like(number, DERIVE_SEED << 28)))
    low, high = philox4x32(even, odd, key_words(seed))
    return low[0] | high[0] << 32  # the 64 bits of an unsigned seed


def _count(passes: Any) -> int:
    try:
        return 0 if isinstance(passes, bool) else operator.index(passes)
    except TypeError:
        raise InputError("passes is a number of passes, or their numbers", got=passes,
                         fix="Pass an int such as 50, or a sequence such as range(50, 100)") from None
