"""Dropout of single elements, or of elements that share a decision along chosen dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from dropkit.core.masks import check_data, check_dims, check_scaling, mask_shape
from dropkit.core.rates import check_rate
from dropkit.core.streams import site_key, skip_site
from dropkit.kernels.dispatch import apply_mask


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, share_dims: Iterable[int] = (),
            scaling: str = "inverted", generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero elements at random in training.

    With inverted scaling ``y = x * m / (1 - p)`` in training and ``y = x`` in evaluation; with classic scaling
    ``y = x * m`` in training and ``y = x * (1 - p)`` in evaluation. x is the input, p the rate, and m the mask, whose
    entries are 0 with probability p and otherwise 1, independently. A dropped value is 0 even where x is infinite or
    NaN, and its gradient is 0.

    Args:
        x: data of a floating-point type.
        p: probability of dropping, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True, as in ``torch.nn.functional.dropout``.
        inplace: write into x and return it. Default: False.
        share_dims: dimensions along which all elements share one decision, such as time in ``(batch, time, features)``.
        scaling: ``"inverted"`` or ``"classic"``.
        generator: draw the seed from here instead of PyTorch's default generator or the keyed context.
        stream: the site's name under ``dk.keyed``; calls without one are known by their order.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, unknown scaling or wrong dimensions.

    Shape:
        x: any. Output: as x.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> y = dropout(torch.ones(2, 3, 4), p=0.5, share_dims=(1,))
        >>> bool((y == y[:, :1]).all()), y.unique()
        (True, tensor([0., 2.]))

    References:
        Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov: "Improving neural networks by preventing co-adaptation
        of feature detectors", 2012. Srivastava et al.: "Dropout: a simple way to prevent neural networks from
        overfitting", JMLR 2014.
    """
    rate, inverted = check_rate(p), check_scaling(scaling)
    if not training:
        return x if inverted else _times_keep(x, rate, inplace)
    if rate == 0.0:
        if generator is None:
            skip_site(stream)
        return x
    shape = mask_shape(check_data(x).shape, share_dims)
    seed, number = site_key(stream, generator)
    y = apply_mask(x, seed, torch.tensor(rate, dtype=torch.float64, device="cpu"), shape, number, inverted)
    return x.copy_(y) if inplace else y


class DropoutSite(_DropoutNd):
    """What dropkit's element-wise and channel modules share: a validated rate, a stream's name, a ``repr``.

    Args:
        p: probability of dropping, in [0, 1]; may be assigned at any time and is checked when used.
        inplace: write into the input and return it.
    """

    stream: str | None = None
    """The site's name under ``dk.keyed``; ``dk.swap`` sets it to the module's path."""

    extras: ClassVar[Mapping[str, Any]] = {}
    """Attributes that torch's twin does not have, with the values at which both mean the same."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(check_rate(p), inplace)

    def extra_repr(self) -> str:
        """Torch's own text, then the extras that differ from their default."""
        extras = [f"{name}={getattr(self, name)!r}" for name, default in self.extras.items()
                  if getattr(self, name) != default]
        return ", ".join([super().extra_repr(), *extras])


class Dropout(DropoutSite):
    """Zero elements at random in training; `dropout` as a module.

    Args:
        p: probability of dropping, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        share_dims: dimensions along which all elements share one decision.
        scaling: ``"inverted"`` scales survivors in training, ``"classic"`` everything in evaluation.

    Raises:
        InputError: for a rate outside [0, 1], unknown scaling, or dimensions that are not integers.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> Dropout(0.2, share_dims=(1,))
        Dropout(p=0.2, inplace=False, share_dims=(1,))
    """

    share_dims: tuple[int, ...] = ()
    scaling: str = "inverted"
    extras: ClassVar[Mapping[str, Any]] = {"share_dims": (), "scaling": "inverted"}

    def __init__(self, p: float = 0.5, inplace: bool = False, *, share_dims: Iterable[int] = (),
                 scaling: str = "inverted") -> None:
        super().__init__(p, inplace)
        check_scaling(scaling)
        self.share_dims, self.scaling = check_dims(share_dims), scaling

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `dropout`.

        Args:
            input: floating-point data of any shape.
        """
        return dropout(input, self.p, self.training, self.inplace, share_dims=self.share_dims, scaling=self.scaling,
                       stream=self.stream)


def _times_keep(x: Tensor, rate: float, inplace: bool) -> Tensor:
    """Classic scaling's evaluation; a rate of 1 leaves nothing, infinities and NaN included, as in training."""
    if rate == 0.0:
        return x
    keep = 1.0 - rate
    if inplace:
        return x.mul_(keep) if keep else x.masked_fill_(torch.ones_like(x, dtype=torch.bool), 0)
    return x * keep if keep else x.masked_fill(torch.ones_like(x, dtype=torch.bool), 0)
