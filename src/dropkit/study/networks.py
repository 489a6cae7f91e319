"""The networks that a study trains when no model is given."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

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


class Recurrent(nn.Module):
    """An LSTM that scores the classes at each position, with dropout on what it reads and on what it returns.

    A position sees those before it alone, so the network may predict the next token.

    Args:
        size: number of different tokens, or of numbers at a position.
        n_outputs: classes.
        embedded: whether inputs are token ids, which are embedded first.
        width: units, at least 1.
        p: probability of dropping a unit, in [0, 1].

    Shape:
        (N, T) token ids or (N, T, size) -> (N, T, n_outputs)

    Example:
        >>> import torch
        >>> Recurrent(50, 7, embedded=True)(torch.zeros(3, 5, dtype=torch.int64)).shape
        torch.Size([3, 5, 7])

    References:
        W. Zaremba, I. Sutskever and O. Vinyals, "Recurrent Neural Network Regularization", 2014.
    """

    def __init__(self, size: int, n_outputs: int, *, embedded: bool, width: int = 128, p: float = 0.5) -> None:
        super().__init__()
        self.read = nn.Embedding(size, width) if embedded else nn.Linear(size, width)
        self.drop_read, self.drop_seen = dkn.Dropout(p), dkn.Dropout(p)
        self.seen = nn.LSTM(width, width, batch_first=True)
        self.score = nn.Linear(width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return a logit for each class at each position."""
        seen, _ = self.seen(self.drop_read(self.read(x)))
        scores: Tensor = self.score(self.drop_seen(seen))
        return scores
