"""DropConnect: dropout of single weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, check_scaling, compute_dtypes
from dropkit.core.rates import check_rate
from dropkit.core.streams import SAME
from dropkit.variants.draw import acting_rate, draw_masked, draw_noise
from dropkit.variants.layers import LINEAR, Geometry, RatedLayer, apply_layer, pad


def drop_connect(x: Tensor, weight: Tensor, bias: Tensor | None = None, p: float | Tensor = 0.5, training: bool = True, *,
                 per: str = "example", inference: str = "mean", scaling: str = "inverted", geometry: Geometry = LINEAR,
                 generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero single weights of a layer at random in training.

    ``u = (M o W) x / q + b``: W is the weight, b the bias, which is never dropped, M a mask of W's shape whose entries are
    0 with probability p and otherwise 1, and q = 1 - p. In evaluation ``"mean"`` inference gives ``u = W x + b``, and
    ``"gaussian"`` draws ``u ~ N(W x + b, (p / q) W^2 x^2)``, the moments over masks. With classic scaling, which is the
    paper's, training gives ``(M o W) x + b`` and evaluation has the mean ``q W x + b`` and the variance ``p q W^2 x^2``.

    Args:
        x: what the layer takes; floating-point data.
        weight: the layer's.
        bias: the layer's.
        p: probability of dropping a weight, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        per: ``"example"`` draws a mask for each example, as the paper does, and needs memory for as many weights;
            ``"batch"`` draws one. The first dimension of x counts the examples; the positions of a sequence share a mask.
        inference: ``"mean"`` or ``"gaussian"``.
        scaling: ``"inverted"`` or ``"classic"``.
        geometry: how the weight is applied; linear by default.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Raises:
        InputError: for a rate outside [0, 1], integer data, or an unknown ``per``, ``inference`` or ``scaling``.

    Shape:
        As the layer's.

    Use:
        On fully connected layers, in the place of dropout on their inputs. Per-example masks suit small layers: a layer of
        n x m weights needs n m values for each example.

    Rates:
        0.5.

    Evidence:
        The paper reports lower errors than dropout on MNIST, CIFAR-10 and SVHN for ensembles of convolutional networks whose
        last hidden layer uses it.

    Example:
        >>> drop_connect(torch.ones(2, 3), torch.ones(4, 3), torch.ones(4), p=1.0)
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]])

    References:
        Wan, Zeiler, Zhang, LeCun, Fergus: "Regularization of neural networks using DropConnect", ICML 2013.
    """
    _check(per, inference)
    inverted = check_scaling(scaling)
    check_data(x)
    rate = acting_rate(p, training, generator, stream)
    if not training:
        return _evaluated(x, weight, bias, p, inverted, inference, geometry, generator, stream)
    if rate is None:
        return apply_layer(x, weight, bias, geometry)
    if per == "batch" or x.dim() <= 1 + geometry.spatial:
        dropped = draw_masked(weight, rate, weight.shape, generator, stream, scaling=inverted, rows=SAME)
        return apply_layer(x, dropped, bias, geometry)
    many = weight.expand(x.shape[0], *weight.shape)
    dropped = draw_masked(many, rate, many.shape, generator, stream, scaling=inverted)
    return _apply_each(x, dropped, bias, geometry)


def drop_connect_moments(x: Tensor, weight: Tensor, bias: Tensor | None = None, p: float | Tensor = 0.5, *,
                         scaling: str = "inverted", geometry: Geometry = LINEAR) -> tuple[Tensor, Tensor]:
    """Mean and variance over masks of a layer's output under `drop_connect`.

    The mean is ``W x + b`` and the variance ``(p / q) W^2 x^2``, or with classic scaling ``q W x + b`` and ``p q W^2 x^2``.
    At p = 1 nothing but the bias is left, and nothing varies.

    Args:
        x: what the layer takes.
        weight: the layer's.
        bias: the layer's.
        p: probability of dropping a weight, in [0, 1]. Default: 0.5.
        scaling: ``"inverted"`` or ``"classic"``.
        geometry: how the weight is applied; linear by default.

    Returns:
        Mean and variance, each of the layer's output shape; in float32 for data of lower precision.

    Raises:
        InputError: for a rate outside [0, 1], integer data, or an unknown ``scaling``.

    Shape:
        As the layer's.

    Example:
        >>> drop_connect_moments(torch.ones(1, 2), torch.ones(1, 2), p=0.5)
        (tensor([[2.]]), tensor([[2.]]))
    """
    wide, _ = compute_dtypes(check_data(x).dtype)
    factor, spread = (value.to(x.device, wide) for value in _factors(p, check_scaling(scaling)))
    x, weight, bias = x.to(wide), weight.to(wide), None if bias is None else bias.to(wide)
    return apply_layer(x, weight * factor, bias, geometry), apply_layer(x**2, weight**2, None, geometry) * spread


class DropConnect(RatedLayer):
    """A layer whose weights are dropped singly in training; `drop_connect` as a module.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        p: probability of dropping a weight, in [0, 1]. Default: 0.5.
        per: ``"example"`` or ``"batch"``.
        inference: ``"mean"`` or ``"gaussian"``.
        scaling: ``"inverted"`` or ``"classic"``.

    Raises:
        InputError: for a layer that cannot be adopted, a rate outside [0, 1], or an unknown choice.

    Shape:
        As the layer's.

    Example:
        >>> DropConnect(nn.Linear(3, 4), 0.3)
        DropConnect(in_features=3, out_features=4, bias=True, p=0.3)
    """

    extras: ClassVar[Mapping[str, Any]] = {"per": "example", "inference": "mean", "scaling": "inverted"}

    def __init__(self, layer: nn.Module, p: float = 0.5, *, per: str = "example", inference: str = "mean",
                 scaling: str = "inverted") -> None:
        super().__init__(layer, p)
        _check(per, inference)
        check_scaling(scaling)
        self.per, self.inference, self.scaling = per, inference, scaling

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with dropped weights in training mode; see `drop_connect`.

        Args:
            input: what the layer takes.
        """
        return drop_connect(input, self.weight, self.bias, self.current_rate(), self.training, per=self.per,
                            inference=self.inference, scaling=self.scaling, geometry=self.geometry, stream=self.stream)


def _check(per: Any, inference: Any) -> None:
    if per not in ("example", "batch"):
        raise InputError('per is "example" or "batch"', got=per, fix='"example" draws a mask for each example, "batch" one')
    if inference not in ("mean", "gaussian"):
        raise InputError('inference is "mean" or "gaussian"', got=inference,
                         fix="For Monte-Carlo inference leave the module in training mode and average")


def _evaluated(x: Tensor, weight: Tensor, bias: Tensor | None, p: float | Tensor, inverted: int, inference: str,
               geometry: Geometry, generator: torch.Generator | None, stream: str | None) -> Tensor:
    if inference == "mean" and inverted:
        return apply_layer(x, weight, bias, geometry)
    mean, variance = drop_connect_moments(x, weight, bias, p, scaling="inverted" if inverted else "classic", geometry=geometry)
    if inference == "mean":
        return mean.to(x.dtype)
    noise = draw_noise(mean.shape, "normal", generator, stream, device=x.device)
    varies = variance > 0  # elsewhere the root has an infinite slope, and gradients would be NaN
    spread = torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)
    return (mean + spread * noise).to(x.dtype)


def _factors(p: float | Tensor, inverted: int) -> tuple[Tensor, Tensor]:
    """By how much the mean of ``W x`` and the sum of ``W^2 x^2`` are multiplied: mean and variance of a mask's entry."""
    traced = isinstance(p, Tensor) and torch.compiler.is_compiling()
    rate = p if isinstance(p, Tensor) and traced else torch.tensor(check_rate(p), dtype=torch.float64, device="cpu")
    keep = 1 - rate
    if not inverted:
        return keep, keep * rate
    some = keep > 0
    return some.to(keep.dtype), torch.where(some, rate / torch.where(some, keep, 1.0), 0.0)


def _apply_each(x: Tensor, weights: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Apply to each example a weight of its own; all examples of a convolution become groups of one."""
    if geometry.kind == "linear":
        flat = x.flatten(1, -2) if x.dim() > 2 else x[:, None]
        y = torch.bmm(flat, weights.mT).reshape(*x.shape[:-1], weights.shape[1])
        return y if bias is None else y + bias
    count, outputs = x.shape[0], weights.shape[1]
    bare = replace(geometry, padding=(0,) * geometry.spatial, padding_mode="zeros")
    x = pad(x, tuple(weights.shape[3:]), geometry)
    if count == 0:  # a batch of none has no groups to convolve
        return apply_layer(x, weights.sum(0), bias, bare)
    wide = replace(bare, groups=geometry.groups * count)
    y = apply_layer(x.reshape(1, count * x.shape[1], *x.shape[2:]), weights.flatten(0, 1), None, wide)
    y = y.reshape(count, outputs, *y.shape[2:])
    return y if bias is None else y + bias.view(-1, *[1] * geometry.spatial)
