"""A test part that no seed's split touches."""

from __future__ import annotations

from dataclasses import replace

import torch

from dropkit.study.data import Data, digest_of
from dropkit.study.partition import partition


def set_aside(data: Data, seed: int) -> Data:
    """Split a test part off that no later split touches; data that brings one comes back as it is.

    Args:
        data: what `load` returned.
        seed: decides, with the data, which examples those are; any whole number of at least 0.

    Example:
        >>> from dropkit.study.data import load
        >>> data = set_aside(load("iris"), seed=0)
        >>> len(data.x_train), len(data.x_test), len(partition(data, seed=7).x_val)
        (120, 30, 30)
    """
    if data.x_test is not None:
        return data
    part = partition(data, seed)
    joined = data.x_val is None  # then validation is split off later, by each run's seed
    tensors = {"x_train": torch.cat([part.x_train, part.x_val]) if joined else part.x_train,
               "y_train": torch.cat([part.y_train, part.y_val]) if joined else part.y_train,
               "x_val": data.x_val, "y_val": data.y_val, "x_test": part.x_test, "y_test": part.y_test}
    return replace(data, **tensors, digest=digest_of(tensors))  # type: ignore[arg-type]
