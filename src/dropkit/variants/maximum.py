"""MaxDropout: zero the largest activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import compute_dtypes
from dropkit.core.rates import check_rate
from dropkit.variants.site import RateSite


def max_dropout(x: Tensor, p: float | Tensor = 0.3, training: bool = True, *, per_sample: bool = False) -> Tensor:
    """Zero the activations in the uppermost part of their range.

    ``y = 0`` where ``(x - min) / (max - min) > 1 - p`` and ``y = x`` elsewhere, in training; x is the input, min and max are
    its smallest and largest element, p is the dropped part of the range between them. In evaluation ``y = x``. Nothing is
    rescaled and nothing is random.

    Args:
        x: data of a real floating-point type.
        p: dropped part of the range, in [0, 1], which is not the dropped part of the elements: that depends on how they are
            distributed. Default: 0.3. At 1 all but the smallest elements are dropped.
        training: whether to drop. Default: True.
        per_sample: whether each example has a range of its own, rather than all of x one. Default: False.

    Returns:
        A tensor like x; x itself where nothing is to be done. Where min equals max nothing is dropped, nor where a NaN or an
        infinity leaves no finite range: it passes through, and shows.

    Raises:
        InputError: for a rate outside [0, 1], data in training that is not real floating-point, or ``per_sample`` on data
            without dimensions.

    Shape:
        x: any; (N, ...) with ``per_sample``. Output: as x.

    Use:
        In place of `dropout` in convolutional networks, to make less active units learn. With the range of the whole tensor
        one outlier decides for all examples of a batch, and results depend on the batch: ``per_sample=True`` avoids that.
        Not where the largest values are the output, as in logits.

    Rates:
        0.3 in the published code.

    Evidence:
        Santos et al. (2020) report better image classification than with dropout in its place, and results comparable to
        Cutout and random erasing. The variant with ``per_sample`` is ours and has no published evidence.

    Example:
        >>> max_dropout(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]), p=0.3)
        tensor([0., 1., 2., 0., 0.])

    References:
        Santos, Colombo, Roder, Papa: "MaxDropout: deep neural network regularization based on maximum output values",
        ICPR 2020.
    """
    if not (isinstance(p, Tensor) and torch.compiler.is_compiling()):
        p = check_rate(p)
        if p == 0.0:
            return x
    if not training:
        return x
    _check_ordered(x, per_sample)
    return torch.where(_above(x.detach(), p, per_sample), 0.0, x) if x.numel() else x


class MaxDropout(RateSite):
    """Zero the activations in the uppermost part of their range; `max_dropout` as a module.

    Args:
        p: dropped part of the range, in [0, 1]. Default: 0.3.
        per_sample: whether each example has a range of its own. Default: False.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: any; (N, ...) with ``per_sample``. Output: as the input.

    Example:
        >>> MaxDropout(0.2, per_sample=True)
        MaxDropout(p=0.2, per_sample=True)
    """

    per_sample: bool = False
    extras: ClassVar[Mapping[str, Any]] = {"per_sample": False}

    def __init__(self, p: float = 0.3, *, per_sample: bool = False) -> None:
        super().__init__()
        self.p = p
        self.per_sample = per_sample

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `max_dropout`.

        Args:
            input: real floating-point data.
        """
        return max_dropout(input, self.current_rate(), self.training, per_sample=self.per_sample)


def _check_ordered(x: Tensor, per_sample: bool) -> None:
    if not x.is_floating_point():
        raise InputError("max_dropout acts on real floating-point data", got=x.dtype, fix="Convert the data, as in x.float()")
    if per_sample and x.dim() == 0:
        raise InputError("per_sample takes data whose dimension 0 is the batch", got=tuple(x.shape), fix="Pass x[None]")


def _above(x: Tensor, p: float | Tensor, per_sample: bool) -> Tensor:
    """Where the normalised value exceeds 1 - p, without dividing: a constant tensor has no 0/0."""
    x = x.to(compute_dtypes(x.dtype)[0])  # in half precision the range can overflow
    dims = list(range(1 if per_sample else 0, x.dim()))
    low, high = (x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)) if dims else (x, x)
    span = high - low
    drop = torch.as_tensor(p, dtype=x.dtype, device=x.device)
    edge = torch.lerp(high, low, drop)  # exact at p = 0 and p = 1, unlike low + (1 - p) * span
    return x > torch.where(span.isfinite(), edge, math.inf)
