"""What is measured inside a network while it trains, besides its scores."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropkit.study.data import Partition
from dropkit.study.prepare import Prepared

_TIMES = 5  # epochs at which a run is looked into, evenly spread, the first and the last among them


def epochs_to_measure(epochs: int) -> list[int]:
    """Return the epochs, counted from 1, after which the instruments are read.

    Example:
        >>> epochs_to_measure(40), epochs_to_measure(2)
        ([1, 11, 21, 30, 40], [1, 2])
    """
    return sorted({1 + round(index * (epochs - 1) / (_TIMES - 1)) for index in range(_TIMES)})


def measure(ready: Prepared, model: nn.Module, part: Partition, seed: int, step: int) -> dict[str, Any]:
    """Read every instrument on ``model``, which is left as it is, as is the random state.

    Args:
        ready: the experiment.
        model: the network.
        part: its data.
        seed: the run's.
        step: steps taken so far.

    Returns:
        Name -> a number, or -> {layer: number}.
    """
    del ready, model, part, seed, step
    return {}


def append(kept: dict[str, Any], epoch: int, found: dict[str, Any]) -> None:
    """Add what was measured after ``epoch`` to what is kept of a run, a value a measured epoch.

    Example:
        >>> kept = {}
        >>> append(kept, 1, {"noise": 2.0, "gradient": {"0": 1.0}})
        >>> append(kept, 4, {"noise": 3.0, "gradient": {"0": 0.5}})
        >>> kept
        {'epoch': [1, 4], 'noise': [2.0, 3.0], 'gradient': {'0': [1.0, 0.5]}}
    """
    if not found:
        return
    kept.setdefault("epoch", []).append(epoch)
    for name, value in found.items():
        if isinstance(value, dict):
            for layer, number in value.items():
                kept.setdefault(name, {}).setdefault(layer, []).append(number)
        else:
            kept.setdefault(name, []).append(value)
