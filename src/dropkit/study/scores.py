"""Scores of predictions: accuracy, error, likelihood and calibration, as plain numbers.

Sums are exactly rounded, so a score does not depend on the number of threads. A row of logits that is not a number, or whose
softmax is not, counts as a wrong prediction made with confidence 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit.core.errors import InputError, phrase
from dropkit.study.result import Bin


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Return the share of examples whose largest logit is the label's.

    Args:
        logits: (N, K) with K >= 2.
        y: (N,) labels, whole numbers in [0, K).

    Raises:
        InputError: a shape, a type or a label is out of range, or there are no examples.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        0.5
    """
    _check_labels(logits, y)
    right = (logits.argmax(1) == y) & ~_broken(logits)
    return int(right.sum()) / len(y)


def rmse(prediction: Tensor, y: Tensor) -> float:
    """Return the root of the mean squared error over all examples and targets, in the targets' unit.

    Args:
        prediction: any shape.
        y: the same shape.

    Raises:
        InputError: the shapes differ, or there are no examples.

    Example:
        >>> rmse(torch.tensor([[4.0], [-2.0]]), torch.tensor([[1.0], [1.0]]))
        3.0
    """
    _check_alike(prediction, y)
    return math.sqrt(_mean((prediction.double() - y.double()).square()))


def nll(output: Tensor, y: Tensor, variance: float | Tensor | None = None) -> float:
    """Return the mean negative log-likelihood of the targets, in nats an example.

    Without ``variance``, of classes: -log softmax(output)[y]. With it, of numbers under a normal distribution with mean
    ``output``: 0.5 log(2 π variance) + (y - output)² / (2 variance), summed over an example's targets.

    Args:
        output: (N, K) logits with K >= 2, or (N, ...) means with ``variance``.
        y: (N,) labels in [0, K), or numbers of the shape of ``output``.
        variance: above 0, in the targets' unit squared; a number, or a tensor that broadcasts to ``output``.

    Raises:
        InputError: a shape, a type, a label or the variance is out of range, or there are no examples.

    Example:
        >>> round(nll(torch.zeros(1, 4), torch.tensor([2])), 4)  # log 4
        1.3863
    """
    if variance is None:
        _check_labels(output, y)
        losses = F.cross_entropy(output.double(), y.long(), reduction="none")
        return _mean(losses.masked_fill(_broken(output), math.inf))
    _check_alike(output, y)
    spread = torch.as_tensor(variance, dtype=torch.float64)
    if not bool((spread > 0).all()):
        raise InputError("a variance is above 0", got=variance, fix="Estimate it from validation residuals")
    each = 0.5 * (torch.log(2 * math.pi * spread) + (y.double() - output.double()).square() / spread)
    return _mean(each.flatten(1).sum(1) if each.dim() > 1 else each)


def brier(logits: Tensor, y: Tensor) -> float:
    """Return the Brier score: squared distance of the probabilities from the one-hot label, a mean over examples, in [0, 2].

    Args:
        logits: (N, K) with K >= 2.
        y: (N,) labels, whole numbers in [0, K).

    Raises:
        InputError: a shape, a type or a label is out of range, or there are no examples.

    Example:
        >>> brier(torch.zeros(1, 2), torch.tensor([0]))  # (1 - 0.5)**2 + 0.5**2
        0.5

    References:
        G. W. Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review, 1950.
    """
    _check_labels(logits, y)
    wrong = torch.softmax(logits.double(), 1) - F.one_hot(y.long(), logits.shape[1])
    return _mean(wrong.square().sum(1).masked_fill(_broken(logits), 2.0))


def reliability(logits: Tensor, y: Tensor, bins: int = 15) -> list[Bin]:
    """Sort predictions by their confidence into bins of equal width and compare confidence with accuracy in each.

    The confidence of a prediction is its largest probability. Bin i of B holds confidences in (i / B, (i + 1) / B].

    Args:
        logits: (N, K) with K >= 2.
        y: (N,) labels, whole numbers in [0, K).
        bins: how many, at least 1.

    Raises:
        InputError: a shape, a type, a label or ``bins`` is out of range, or there are no examples.

    Example:
        >>> [(bar.count, bar.confidence, bar.accuracy) for bar in reliability(torch.zeros(2, 4), torch.tensor([0, 1]), 2)]
        [(2, 0.25, 0.5), (0, None, None)]

    References:
        C. Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """
    _check_labels(logits, y)
    if bins < 1:
        raise InputError("there is at least one bin", got=bins, fix="Pass bins=15")
    broken = _broken(logits)
    confidence = torch.softmax(logits.double(), 1).amax(1).masked_fill(broken, 1.0).clamp(max=1.0).numpy(force=True)
    right = ((logits.argmax(1) == y) & ~broken).numpy(force=True)
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.maximum(np.searchsorted(edges, confidence, side="left") - 1, 0)
    counts = np.bincount(index, minlength=bins).tolist()
    sums = np.bincount(index, weights=confidence, minlength=bins).tolist()
    hits = np.bincount(index, weights=right, minlength=bins).tolist()
    return [Bin(low, high, n, total / n if n else None, hit / n if n else None)
            for low, high, n, total, hit in zip(edges[:-1].tolist(), edges[1:].tolist(), counts, sums, hits, strict=True)]


def ece(bins: list[Bin]) -> float:
    """Return the expected calibration error: the mean distance of accuracy from confidence, weighted by the bins' counts.

    Args:
        bins: what `reliability` returned.

    Raises:
        InputError: the bins hold no predictions.

    Example:
        >>> ece(reliability(torch.zeros(2, 4), torch.tensor([0, 1])))  # accuracy 0.5 at confidence 0.25
        0.25

    References:
        M. P. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015.
    """
    total = sum(bar.count for bar in bins)
    if total == 0:
        raise InputError("a calibration error needs predictions", got=phrase("empty bins"),
                         fix="Pass what reliability() returned for at least one example")
    return math.fsum(bar.count * abs(bar.accuracy - bar.confidence) for bar in bins
                     if bar.accuracy is not None and bar.confidence is not None) / total


def _mean(values: Tensor) -> float:
    numbers = values.flatten().tolist()
    if not all(map(math.isfinite, numbers)):  # fsum raises on infinities of both signs
        return math.inf if not any(map(math.isnan, numbers)) else math.nan
    return math.fsum(numbers) / len(numbers)


def _broken(logits: Tensor) -> Tensor:
    # A row's maximum is NaN or +inf where one logit is, and -inf where all are; those rows have no softmax.
    return ~torch.isfinite(logits.amax(1))


def _check_labels(logits: Tensor, y: Tensor) -> None:
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise InputError("logits are (N, K) with a column for each of K >= 2 classes",
                         got=phrase(f"shape {tuple(logits.shape)}"),
                         fix="Give a model of two classes two outputs, not one")
    if y.dim() != 1 or len(y) != len(logits) or y.is_floating_point():
        raise InputError(f"labels are {len(logits)} whole numbers, one for each row of logits",
                         got=phrase(f"{y.dtype} of shape {tuple(y.shape)}"), fix="Pass y of shape (N,) and type int64")
    if len(y) == 0:
        raise InputError("a score needs at least one example", got=phrase("no examples"), fix="Pass N >= 1 rows")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise InputError(f"labels lie in [0, {logits.shape[1]})", got=phrase(f"{int(y.min())} to {int(y.max())}"),
                         fix="Number the classes from 0, or widen the model's last layer")


def _check_alike(prediction: Tensor, y: Tensor) -> None:
    if prediction.shape != y.shape:  # (N,) against (N, 1) would broadcast to (N, N) without a word
        raise InputError("predictions and targets have one shape", got=phrase(f"{tuple(prediction.shape)} and "
                         f"{tuple(y.shape)}"), fix="Reshape one of them, for example by unsqueeze(1)")
    if y.numel() == 0:
        raise InputError("a score needs at least one example", got=phrase("no examples"), fix="Pass N >= 1 rows")
