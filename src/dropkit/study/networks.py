"""The network a study trains when no model is given."""

from __future__ import annotations

from math import prod

from torch import nn

import dropkit.nn as dkn


def mlp(shape: list[int], n_outputs: int, width: int = 256, p: float = 0.5) -> nn.Module:
    """Build a perceptron with two hidden ReLU layers, each followed by dropout.

    Args:
        shape: the shape of one example; flattened.
        n_outputs: classes, or target values.
        width: units in each hidden layer, at least 1.
        p: probability of dropping a hidden unit, in [0, 1].

    Shape:
        (N, *shape) -> (N, n_outputs)

    Example:
        >>> import torch
        >>> mlp([8, 8], 10)(torch.zeros(3, 8, 8)).shape
        torch.Size([3, 10])
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), width), nn.ReLU(), dkn.Dropout(p),
        nn.Linear(width, width), nn.ReLU(), dkn.Dropout(p),
        nn.Linear(width, n_outputs),
    )
