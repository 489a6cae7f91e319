"""Stochastic depth: dropout of whole residual branches, and the rules for its rate over depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import INVERTED, check_data, check_scaling, mask_shape
from dropkit.core.rates import check_rate
from dropkit.core.streams import rows_of, shard_of, site_key
from dropkit.kernels.dispatch import add_masked
from dropkit.variants.draw import acting_rate
from dropkit.variants.dropout import dropout
from dropkit.variants.site import RateSite

_RULES = ("paper", "linspace", "zero_based")


def drop_path(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, per: str = "sample", scaling: str = "inverted",
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Drop a whole residual branch at random in training.

    ``y = x * m / (1 - p)`` with one entry of the mask m for each example, or one for the batch; x is the branch, to be added
    to the skip connection afterwards, and p the rate. Classic scaling is the paper's: ``y = x * m`` in training and
    ``y = x * (1 - p)`` in evaluation.

    Args:
        x: the branch's output, floating-point data, batch first.
        p: probability of dropping the branch, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        per: ``"sample"`` decides for each example, ``"batch"`` once for all.
        scaling: ``"inverted"`` or ``"classic"``.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, an unknown ``per`` or ``scaling``, or data without
            dimensions per sample.

    Shape:
        x: (N, ...). Output: as x.

    Use:
        On the residual branches of deep networks, just before the addition, with a rate that grows with depth
        (`depth_rates`). It drops computation that others can do without, so it suits networks of dozens of blocks; a
        shallow network loses too much with each branch. A rate of 0 is no identity: it can be scheduled up later.

    Rates:
        0.1 at the last block of a small model up to 0.5 for very deep ones, growing linearly with depth.

    Evidence:
        The paper trains residual networks of 1,202 layers with it and reports a lower test error than without it at 110
        layers on CIFAR-10 and CIFAR-100, with a survival probability of 0.5 at the last layer.

    Example:
        >>> y = drop_path(torch.ones(4, 3, 2), p=0.5)
        >>> bool((y == y[:, :1, :1]).all())
        True

    References:
        Huang, Sun, Liu, Sedra, Weinberger: "Deep networks with stochastic depth", ECCV 2016. The name DropPath comes from
        Larsson, Maire, Shakhnarovich: "FractalNet: ultra-deep neural networks without residuals", ICLR 2017, where it
        means dropping paths of a fractal block; libraries have since used it for stochastic depth.
    """
    return dropout(x, p, training, share_dims=_shared(x, _check_per(per)), scaling=scaling, generator=generator, stream=stream)


def drop_path_add(x: Tensor, residual: Tensor, p: float | Tensor = 0.1, training: bool = True, *, per: str = "sample",
                  generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Add a residual to what stochastic depth leaves: ``residual + drop_path(x, p)`` in one pass over memory.

    ``y = residual + x * m / (1 - p)`` in training and ``y = residual + x`` in evaluation, computed in float32 (float64 for
    float64 data) and rounded once; x is the branch, p the rate, m the mask as in `drop_path`, whose seeds and streams it
    shares.

    Args:
        x: the branch's output, floating-point data, batch first.
        residual: of x's shape, type and device.
        p: probability of dropping the branch, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        per: ``"sample"`` decides for each example, ``"batch"`` once for all.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, an unknown ``per``, or a residual that does not
            match x.

    Shape:
        x, residual, output: (N, ...), all the same.

    Example:
        >>> drop_path_add(torch.ones(3, 1), torch.ones(3, 1), p=1.0).flatten()
        tensor([1., 1., 1.])
    """
    shared = _shared(x, _check_per(per))
    if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
        raise InputError("a residual has the shape, type and device of the branch", fix="Expand or convert it",
                         got=phrase(f"{tuple(residual.shape)} {residual.dtype} on {residual.device} for "
                                    f"{tuple(x.shape)} {x.dtype} on {x.device}"))
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return residual + x
    shape = mask_shape(check_data(x).shape, shared)
    rows = rows_of(shape, generator)
    seed, number = site_key(stream, generator, rows)
    return add_masked(residual, x, seed, rate, shape, number, INVERTED, **shard_of(shape, rows))


class DropPath(RateSite):
    """Drop a whole residual branch at random in training; `drop_path` as a module.

    Args:
        p: probability of dropping the branch, in [0, 1]. Default: 0.1.
        per: ``"sample"`` or ``"batch"``.
        scaling: ``"inverted"`` or ``"classic"``.

    Raises:
        InputError: for a rate outside [0, 1], or an unknown ``per`` or ``scaling``.

    Shape:
        Input: (N, ...). Output: as the input.

    Example:
        >>> DropPath(0.2)
        DropPath(p=0.2)
    """

    extras: ClassVar[Mapping[str, Any]] = {"per": "sample", "scaling": "inverted"}

    def __init__(self, p: float = 0.1, *, per: str = "sample", scaling: str = "inverted") -> None:
        super().__init__()
        check_scaling(scaling)
        self.p, self.per, self.scaling = p, _check_per(per), scaling

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_path`.

        Args:
            input: the branch's output, batch first.
        """
        return drop_path(input, self.current_rate(), self.training, per=self.per, scaling=self.scaling, stream=self.stream)


def depth_rates(p: float, depth: int, rule: str = "paper") -> tuple[float, ...]:
    """The rates of stochastic depth over the blocks of a network.

    With blocks l = 1, ..., L the three rules in use are ``"paper"``: ``p l / L`` (Huang et al. 2016), ``"linspace"``:
    ``p (l - 1) / (L - 1)``, from 0 at the first to p at the last block (timm; torchvision's ConvNeXt and Swin), and
    ``"zero_based"``: ``p (l - 1) / L``, from 0 to just below p (torchvision's EfficientNet).

    Args:
        p: the rate at the end of the network, in [0, 1].
        depth: the number L of blocks, at least 1.
        rule: ``"paper"``, ``"linspace"`` or ``"zero_based"``.

    Returns:
        One rate a block. With a single block: p, 0 and 0.

    Raises:
        InputError: for a rate outside [0, 1], a depth below 1 or an unknown rule.

    Example:
        >>> depth_rates(0.2, 4)
        (0.05, 0.1, 0.15000000000000002, 0.2)
        >>> depth_rates(0.3, 3, "linspace")
        (0.0, 0.15, 0.3)
    """
    rate = check_rate(p)
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise InputError("depth is a number of blocks, at least 1", got=depth, fix="Pass an int such as 12")
    if rule not in _RULES:
        raise InputError('rule is "paper", "linspace" or "zero_based"', got=rule, fix="Pass one of them")
    if rule == "paper":
        return tuple(rate * ((block + 1) / depth) for block in range(depth))  # in this order the last rate is p exactly
    return tuple(rate * (block / (max(depth - 1, 1) if rule == "linspace" else depth)) for block in range(depth))


def _check_per(per: Any) -> str:
    if per not in ("sample", "batch"):
        raise InputError('per is "sample" or "batch"', got=per,
                         fix='"sample" decides for each example, "batch" once for all of them')
    return str(per)


def _shared(x: Tensor, per: str) -> tuple[int, ...]:
    if per == "sample" and isinstance(x, Tensor) and x.dim() == 0:
        raise InputError("a branch dropped per sample has a batch dimension", got=tuple(x.shape), fix='Pass per="batch"')
    return tuple(range(1 if per == "sample" else 0, x.dim() if isinstance(x, Tensor) else 1))
