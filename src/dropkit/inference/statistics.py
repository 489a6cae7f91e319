"""Statistics over passes, merged chunk by chunk, so that no sample has to be kept."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Mean and variance over the first dimension, in float64.

    Chunks are merged by Chan's rule: with counts n and m, means a and b and sums of squared deviations S and R the merged mean
    is ``a + (b - a) m / (n + m)`` and the merged sum ``S + R + (b - a)^2 n m / (n + m)``. Values that are all the same give a
    variance of exactly 0.

    Example:
        >>> moments = Moments()
        >>> moments.add(torch.tensor([[1.0], [2.0]]))
        >>> moments.add(torch.tensor([[6.0]]))
        >>> moments.mean, moments.variance()
        (tensor([3.], dtype=torch.float64), tensor([7.], dtype=torch.float64))

    References:
        Chan, Golub, LeVeque: "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros(())

    def add(self, chunk: Tensor) -> None:
        """Take further values in.

        Args:
            chunk: one value an entry of the first dimension.
        """
        values = chunk.to(torch.float64)
        begin = values[0]  # taken off first, so that equal values have their value for a mean, to the last bit
        mean = begin + (values - begin).mean(0)
        squares = (values - mean).square().sum(0)
        if self.count == 0:
            self.count, self.mean, self._squares = len(values), mean, squares
            return
        total = self.count + len(values)
        step = mean - self.mean
        self.mean = self.mean + step * (len(values) / total)
        self._squares = self._squares + squares + step.square() * (self.count * len(values) / total)
        self.count = total

    def variance(self) -> Tensor:
        """Return the unbiased variance, NaN of a single value."""
        return self._squares / (self.count - 1) if self.count > 1 else torch.full_like(self._squares, torch.nan)


class Classes:
    """What class probabilities tell over passes: their moments, the mean of their entropies, and how often each class won.

    Args:
        dim: the dimension of the classes in one pass's output.
    """

    def __init__(self, dim: int) -> None:
        self.moments, self._dim = Moments(), dim
        self._entropies = Moments()
        self.votes = torch.zeros(())

    def add(self, logits: Tensor) -> None:
        """Take the outputs of further passes in.

        Args:
            logits: one output an entry of the first dimension.
        """
        dim = self._dim if self._dim < 0 else self._dim + 1
        logs = logits.to(torch.float64).log_softmax(dim)
        chances = logs.exp()
        self.moments.add(chances)
        self._entropies.add(entropy(chances, dim))
        won = torch.zeros_like(chances).scatter_(dim, chances.argmax(dim, keepdim=True), 1.0).sum(0)
        self.votes = self.votes.to(won) + won

    @property
    def expected_entropy(self) -> Tensor:
        """The mean over passes of the entropy, in nats."""
        return self._entropies.mean


def entropy(chances: Tensor, dim: int) -> Tensor:
    """The entropy of class probabilities in nats: ``-sum_c p_c log p_c``, in which ``0 log 0`` is 0.

    Args:
        chances: the probabilities.
        dim: the dimension of the classes.

    Example:
        >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), -1)
        tensor([0.0000, 0.6931])
    """
    found: Tensor = torch.special.entr(chances).sum(dim)
    return found
