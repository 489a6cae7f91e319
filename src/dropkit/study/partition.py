"""Data split by seed, and standardised by the training part alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.study.data import Data

_ROWS = 4096  # examples standardised at a time, so that the float64 copy stays small


@dataclass(frozen=True, eq=False)
class Partition:
    """Training, validation and test data of one seed.

    ``y_mean`` and ``y_std``, (d,) float64, are set by `standardise` for regression; `unscale` goes back by them.
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    y_mean: Tensor | None = None
    y_std: Tensor | None = None

    def unscale(self, values: Tensor) -> Tensor:
        """Return outputs or targets in the targets' own unit; what was never scaled comes back as it is.

        Args:
            values: (N, d) outputs or targets on the standardised scale.
        """
        if self.y_mean is None or self.y_std is None:
            return values
        return (values.double() * self.y_std + self.y_mean).to(values.dtype)


def partition(data: Data, seed: int, fractions: Sequence[float] = (0.6, 0.2, 0.2)) -> Partition:
    """Split off the parts that the data does not bring; given parts stay as they are.

    The split depends on ``data`` and ``seed`` alone and draws from a generator of its own. For classification with at least
    three examples of every class it is stratified: each class is spread over the parts nearly in proportion.

    Args:
        data: what `load` returned.
        seed: any whole number of at least 0.
        fractions: shares of training, validation and test, above 0, with sum 1; where one of the latter is given, its share
            counts for nothing and the others keep their proportion.

    Raises:
        InputError: the fractions are out of range, or there are too few examples to split.

    Example:
        >>> from dropkit.study.data import load
        >>> part = partition(load("iris"), seed=0)
        >>> len(part.x_train), len(part.x_val), torch.bincount(part.y_test).tolist()
        (90, 30, [10, 10, 10])
    """
    if len(fractions) != 3 or not all(share > 0 for share in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise InputError("fractions are three shares above 0 with sum 1", got=fractions, fix="Pass (0.6, 0.2, 0.2)")
    x, y = data.x_train, data.y_train
    shares = [fractions[0], fractions[1] if data.x_val is None else 0.0, fractions[2] if data.x_test is None else 0.0]
    n_val, n_test = (max(1, int(len(x) * share / sum(shares) + 0.5)) if share else 0 for share in shares[1:])
    n_train = len(x) - n_val - n_test
    if n_train < 1:
        raise InputError("the training data suffices to split parts off it", got=phrase(f"{len(x)} examples"),
                         fix="Pass more examples, or validation and test data of your own")
    order = _order(data, torch.Generator().manual_seed(seed))
    train, val, test = order[:n_train], order[n_train:n_train + n_val], order[n_train + n_val:]
    given = not (n_val or n_test)  # then the order of the training data stays too
    return Partition(
        x if given else x[train], y if given else y[train],
        x[val] if data.x_val is None else data.x_val, y[val] if data.y_val is None else data.y_val,
        x[test] if data.x_test is None else data.x_test, y[test] if data.y_test is None else data.y_test)


def standardise(partition: Partition, task: str) -> Partition:
    """Bring features, and the targets of a regression, to mean 0 and standard deviation 1 on the training part.

    Floating-point features of shape (N, F) are scaled one by one; those with more dimensions, such as images, by one mean
    and one standard deviation. A feature that is constant in the training part becomes 0 everywhere. Token ids stay.

    Args:
        partition: what `partition` returned.
        task: one of `dropkit.study.targets.TASKS`.

    Returns:
        A new partition, with ``y_mean`` and ``y_std`` for regression.

    Example:
        >>> from dropkit.study.data import load
        >>> part = standardise(partition(load("diabetes"), seed=0), "regression")
        >>> abs(float(part.y_train.mean())) < 1e-6, part.y_mean.shape
        (True, torch.Size([1]))
    """
    found = partition
    if partition.x_train.is_floating_point():
        mean, std = moments(partition.x_train)
        found = replace(found, x_train=scaled(partition.x_train, mean, std), x_val=scaled(partition.x_val, mean, std),
                         x_test=scaled(partition.x_test, mean, std))
    if task == "regression":
        mean, std = moments(partition.y_train)
        found = replace(
            found, y_train=scaled(partition.y_train, mean, std), y_val=scaled(partition.y_val, mean, std, constant=1.0),
            y_test=scaled(partition.y_test, mean, std, constant=1.0), y_mean=mean, y_std=torch.where(std == 0, 1.0, std))
    return found


def _order(data: Data, generator: torch.Generator) -> Tensor:
    """Return the examples in an order of which every stretch holds each class in proportion, where that is asked."""
    shuffled = torch.randperm(len(data.y_train), generator=generator)
    if data.task != "classification":
        return shuffled
    labels = data.y_train[shuffled]
    sizes = torch.bincount(labels)
    if int(sizes[sizes > 0].min()) < 3:
        return shuffled
    # The r-th of a class's n examples goes to place (r + u) / n of [0, 1), u random: systematic sampling.
    starts = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
    by_class = torch.argsort(labels, stable=True)
    kinds = labels[by_class]
    ranks = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[kinds]
    return shuffled[by_class[torch.argsort((ranks + starts[kinds]) / sizes[kinds], stable=True)]]


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation in float64, a value a feature or one for all; 0 for what is constant.

    Args:
        values: (N, F), or with more dimensions, such as images, for one value in all.
    """
    array = values.numpy()
    axis = 0 if array.ndim <= 2 else None
    mean = array.mean(axis=axis, dtype=np.float64)
    squares = sum(np.square(array[at:at + _ROWS] - mean).sum(axis=axis) for at in range(0, len(array), _ROWS))
    # Up to 2**29 alike float32 values add up exactly in float64, so a constant has a standard deviation of exactly 0.
    return torch.as_tensor(mean), torch.as_tensor(np.sqrt(squares / (array.size if axis is None else len(array))))


def scaled(values: Tensor, mean: Tensor, std: Tensor, constant: float = 0.0) -> Tensor:
    """Return (values - mean) / std in float32; what has std 0 is multiplied by ``constant`` instead.

    Args:
        values: (N, ...).
        mean: what `moments` returned.
        std: what `moments` returned.
        constant: in place of 1 / std where that is 0.
    """
    factor = torch.where(std == 0, constant, 1 / std)
    result = torch.empty_like(values)
    for at in range(0, len(values), _ROWS):
        result[at:at + _ROWS] = (values[at:at + _ROWS].double() - mean) * factor
    return result
