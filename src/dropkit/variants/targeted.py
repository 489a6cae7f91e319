"""Targeted dropout: drop the weights that pruning would remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.masks import compute_dtypes
from dropkit.core.streams import SAME
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.layers import RatedLayer, apply_layer


def targeted_dropout(weight: Tensor, p: float | Tensor = 0.5, training: bool = True, *, gamma: float = 0.5,
                     kind: str = "weight", generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero, at random in training, weights among those of least magnitude.

    ``W' = 0`` where a weight is among the floor(gamma n) smallest and the mask m drops it, and ``W' = W`` elsewhere: the n
    weights compared are those into one output unit, or, for whole units, the n units by the norm of their weights. p is the
    rate of the mask. Nothing is rescaled. In evaluation W is returned as it is: to prune is a step of its own (`targets`).

    Args:
        weight: of a layer, output units first.
        p: probability of dropping a targeted weight, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        gamma: fraction that is targeted, in [0, 1]. Default: 0.5.
        kind: ``"weight"``, or ``"unit"`` for all weights into a unit together.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the weight; the weight itself where nothing is to be done.

    Raises:
        InputError: for a rate or fraction outside [0, 1], an unknown kind, or a weight of fewer than 2 dimensions.

    Shape:
        weight: (outputs, inputs, ...). Output: as the weight.

    Use:
        When the network is to be pruned after training: it learns not to rely on what pruning will remove.

    Rates:
        gamma is the fraction to be pruned; p = 0.5, or both rising over training.

    Evidence:
        The paper reports that networks trained so keep more of their accuracy when pruned than with several other schemes.

    Example:
        >>> targeted_dropout(torch.tensor([[1.0, -2.0, 3.0, 4.0]]), p=1.0)
        tensor([[0., 0., 3., 4.]])

    References:
        Gomez, Zhang, Kamalakara, Madaan, Swersky, Gal, Hinton: "Learning sparse networks using targeted dropout", 2019.
    """
    fraction = _check_fraction(gamma)
    _check_kind(kind)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return weight
    chosen = targets(weight, fraction, kind)
    keep = draw_keep(chosen.shape, rate, generator, stream, device=weight.device, rows=SAME)
    return torch.where(chosen & ~keep, 0.0, weight)


def targets(weight: Tensor, gamma: float = 0.5, kind: str = "weight") -> Tensor:
    """Which weights are among those of least magnitude; ties go to the lower index.

    Args:
        weight: of a layer, output units first.
        gamma: fraction that is targeted, in [0, 1].
        kind: ``"weight"`` or ``"unit"``.

    Returns:
        A bool tensor: of the weight's shape, or with size 1 in all but the first dimension for units.

    Raises:
        InputError: for a fraction outside [0, 1], an unknown kind, or a weight of fewer than 2 dimensions.

    Shape:
        weight: (outputs, inputs, ...).

    Example:
        >>> targets(torch.tensor([[1.0, -2.0, 3.0, 4.0]]), 0.25)
        tensor([[ True, False, False, False]])
    """
    fraction, single = _check_fraction(gamma), _check_kind(kind) == "weight"
    if weight.dim() < 2:
        raise InputError("a weight to target has the dimensions (outputs, inputs, ...)", got=tuple(weight.shape),
                         fix="Biases and the scales of norms have no weights to compare; leave them out")
    data = weight.detach().flatten(1)
    size = data.abs() if single else torch.linalg.vector_norm(data, dim=1, dtype=compute_dtypes(data.dtype)[0])[None]
    count = int(fraction * size.shape[1] + 1e-9)  # 0.29 of 100 is 29, whatever the floating product says
    shape = weight.shape if single else (weight.shape[0], *[1] * (weight.dim() - 1))
    return _smallest(size.nan_to_num(nan=float("inf"), posinf=float("inf")), count).view(shape)


class TargetedDropout(RatedLayer):
    """A layer whose smallest weights are dropped at random in training; `targeted_dropout` as a module.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        p: probability of dropping a targeted weight, in [0, 1]. Default: 0.5.
        gamma: fraction that is targeted, in [0, 1]. Default: 0.5.
        kind: ``"weight"`` or ``"unit"``.

    Raises:
        InputError: for a layer that cannot be adopted, a rate or fraction outside [0, 1], or an unknown kind.

    Shape:
        As the layer's.

    Example:
        >>> TargetedDropout(nn.Linear(3, 4), 0.5, gamma=0.75)
        TargetedDropout(in_features=3, out_features=4, bias=True, p=0.5, gamma=0.75)
    """

    extras: ClassVar[Mapping[str, Any]] = {"gamma": 0.5, "kind": "weight"}

    def __init__(self, layer: nn.Module, p: float = 0.5, gamma: float = 0.5, *, kind: str = "weight") -> None:
        super().__init__(layer, p)
        self.gamma, self.kind = _check_fraction(gamma), _check_kind(kind)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with dropped weights in training mode; see `targeted_dropout`.

        Args:
            input: what the layer takes.
        """
        weight = targeted_dropout(self.weight, self.current_rate(), self.training, gamma=self.gamma, kind=self.kind,
                                  stream=self.stream)
        return apply_layer(input, weight, self.bias, self.geometry)

    @torch.no_grad()
    def prune_(self) -> float:
        """Set the targeted weights to 0 for good.

        Returns:
            The fraction of weights that are 0 now.

        Example:
            >>> TargetedDropout(nn.Linear(4, 2), gamma=0.5).prune_()
            0.5
        """
        self.weight.masked_fill_(targets(self.weight, self.gamma, self.kind), 0.0)
        return float((self.weight == 0).double().mean())


def _smallest(size: Tensor, count: int) -> Tensor:
    """Where the ``count`` least values of each row are; several times as fast as sorting."""
    if count == 0 or size.numel() == 0:
        return torch.zeros_like(size, dtype=torch.bool)
    limit = size.kthvalue(count, dim=1, keepdim=True).values
    below, ties = size < limit, size == limit
    room = count - below.sum(1, keepdim=True)
    return below | (ties & (ties.cumsum(1) <= room))


def _check_fraction(gamma: Any) -> float:
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 <= gamma <= 1:
        raise InputError("gamma is the fraction of weights to target: a number in [0, 1]", got=gamma,
                         fix="Pass a float such as 0.5, or the fraction that is to be pruned")
    return float(gamma)


def _check_kind(kind: Any) -> str:
    if kind not in ("weight", "unit"):
        raise InputError('kind is "weight" or "unit"', got=kind, fix='"unit" drops all weights into an output unit together')
    return str(kind)
