"""Instruments that look at gradients: norms, units without any, and noise from data and from masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from dropkit.study.instruments_subject import Subject, layer_of

_KEYS = 3  # mask keys whose gradients are compared on one batch


class Spread:
    """Mean and variance of vectors, by way of their differences from the first: equal ones have a variance of exactly 0.

    Example:
        >>> spread = Spread(torch.tensor([1.0, 0.0]))
        >>> spread.add(torch.tensor([3.0, 0.0]))
        >>> spread.mean(), spread.variance()
        (tensor([2., 0.]), 2.0)
    """

    def __init__(self, first: Tensor) -> None:
        self._first, self._sum = first, torch.zeros_like(first)
        self._squares, self._count = 0.0, 1

    def add(self, vector: Tensor) -> None:
        """Take a further vector in."""
        difference = vector - self._first
        self._sum += difference
        self._squares += squared_norm(difference)
        self._count += 1

    def mean(self) -> Tensor:
        """Return the mean."""
        return self._first + self._sum / self._count

    def variance(self) -> float:
        """Return the unbiased variance, summed over the entries."""
        return max(0.0, self._squares - squared_norm(self._sum) / self._count) / (self._count - 1)


def squared_norm(vector: Tensor) -> float:
    """Return the sum of squares, added up in float64.

    Example:
        >>> squared_norm(torch.tensor([3.0, 4.0]))
        25.0
    """
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64)) ** 2


def gradients(subject: Subject, evaluated: Tensor) -> dict[str, Any]:
    """Return ``gradient_norm``, ``no_gradient``, ``data_noise``, ``mask_noise`` and ``output_zeros``.

    Args:
        subject: the network, in any mode.
        evaluated: its outputs in evaluation for the subject's first examples.
    """
    if not subject.batches or not subject.parameters:
        return {}
    subject.model.train()
    first, *others = subject.batches
    base, outputs = _gradient(subject, first, 0)
    reached, over_data, over_masks = base.abs(), Spread(base), Spread(base)
    for chosen, key, spread in [*((batch, 0, over_data) for batch in others),
                                *((first, key, over_masks) for key in range(1, _KEYS))]:
        gradient, _ = _gradient(subject, chosen, key)
        reached += gradient.abs()
        spread.add(gradient)
    mean = over_data.mean()
    signal = squared_norm(mean)
    return {
        "gradient_norm": _norms(subject, mean), "no_gradient": _without(subject, reached),
        "data_noise": _ratio(over_data.variance(), signal), "mask_noise": _ratio(over_masks.variance(), signal),
        "output_zeros": _zeros(outputs, evaluated)}


def _gradient(subject: Subject, chosen: slice, key: int) -> tuple[Tensor, Tensor]:
    """Return the gradient of the loss on some examples as one vector, and the outputs."""
    with torch.enable_grad():
        outputs = subject.forward(chosen, key)
        subject.ready.loss(outputs, subject.y[chosen]).backward()  # type: ignore[no-untyped-call]
    found = [torch.zeros_like(x) if x.grad is None else x.grad.to_dense() for x in subject.parameters.values()]
    subject.model.zero_grad()
    return torch.cat([x.flatten() for x in found]), outputs.detach()


def _pieces(subject: Subject, vector: Tensor) -> list[tuple[str, Tensor]]:
    """A vector over all parameters cut into theirs, with their names."""
    sizes = [x.numel() for x in subject.parameters.values()]
    return [(name, piece.view_as(x)) for (name, x), piece in
            zip(subject.parameters.items(), torch.split(vector, sizes), strict=True)]


def _norms(subject: Subject, mean: Tensor) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, piece in _pieces(subject, mean):
        squares[layer_of(name)] = squares.get(layer_of(name), 0.0) + squared_norm(piece)
    return {layer: square ** 0.5 for layer, square in squares.items()}


def _without(subject: Subject, reached: Tensor) -> dict[str, float]:
    counts: dict[str, list[int]] = {}
    modules = dict(subject.model.named_modules())
    for name, piece in _pieces(subject, reached):
        module = modules.get(name.rpartition(".")[0])
        if piece.dim() < 2 or isinstance(module, nn.Embedding | nn.EmbeddingBag):  # words that did not occur are no units
            continue
        rows = piece.movedim(1, 0) if isinstance(module, _ConvTransposeNd) else piece
        still = int((rows.flatten(1).sum(1) == 0).sum())
        counts.setdefault(layer_of(name), []).append(still)
        counts[layer_of(name)].append(len(rows))
    return {layer: sum(numbers[::2]) / sum(numbers[1::2]) for layer, numbers in counts.items()}


def _ratio(variance: float, signal: float) -> float:
    return variance / signal if signal > 0 else float("nan")


def _zeros(outputs: Tensor, evaluated: Tensor) -> float:
    """Share of the outputs that training makes zero; of outputs that are never negative, as a ReLU's, nothing can be told."""
    kept = evaluated[: len(outputs)]
    if not bool((kept < 0).any()):
        return float("nan")
    return float((outputs[: len(kept)][kept != 0] == 0).float().mean())
