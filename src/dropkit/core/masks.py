"""Mask shapes, and which data can be masked."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase

UNSCALED, INVERTED, ALPHA = 0, 1, 2
"""What the kernels multiply kept elements by: nothing; 1 / (1 - p), which keeps the mean; or the factor that keeps variance 1
where dropped elements take SELU's lowest value (`dropkit.variants.alpha`)."""

SELU_LOWEST = -1.0507009873554805 * 1.6732632423543772
"""The limit of SELU at minus infinity."""


def mask_shape(shape: Sequence[int], share_dims: Iterable[int] = ()) -> tuple[int, ...]:
    """The shape of the mask for data of a shape: size 1 where the mask is shared.

    Args:
        shape: the data's shape.
        share_dims: dimensions along which all elements share one decision; negative ones count from the end.

    Raises:
        InputError: for a dimension out of range, given twice, or not an integer.

    Example:
        >>> mask_shape((8, 5, 3), share_dims=(1,))
        (8, 1, 3)
        >>> mask_shape((8, 5, 3), share_dims=(0, -1))
        (1, 5, 1)
    """
    shared = check_dims(share_dims)
    if not shared:
        return tuple(shape)
    rank = len(shape)
    for dim in shared:
        if not -rank <= dim < rank:
            raise InputError(f"share_dims are dimensions of the input, here in [{-rank}, {rank - 1}]" if rank else
                             "an input without dimensions has no share_dims",
                             got=shared, fix=f"The input's shape is {tuple(shape)}; name dimensions that it has")
    wrapped = [dim % rank for dim in shared]
    if len(set(wrapped)) < len(wrapped):
        raise InputError("share_dims name each dimension once", got=shared,
                         fix=f"Remove the repeated one; the input has {rank} dimensions")
    return tuple(1 if dim in wrapped else size for dim, size in enumerate(shape))


def check_dims(share_dims: Any) -> tuple[int, ...]:
    """Shared dimensions as a tuple of integers, whether or not a data tensor has them.

    Args:
        share_dims: an iterable of integers.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_dims([1, -1])
        (1, -1)
    """
    if type(share_dims) is tuple and not share_dims:
        return ()
    if not isinstance(share_dims, Iterable) or isinstance(share_dims, str | bytes | Tensor):
        raise InputError("share_dims is a sequence of dimensions", got=share_dims, fix="Pass a tuple such as (1,)")
    dims = tuple(share_dims)
    for dim in dims:
        if isinstance(dim, bool) or not hasattr(dim, "__index__"):
            raise InputError("share_dims holds integers", got=share_dims, fix="Pass a tuple such as (1,)")
    return tuple(operator.index(dim) for dim in dims)


def check_data(x: Any) -> Tensor:
    """The data of an active dropout: a tensor of real or complex floating-point numbers.

    Args:
        x: what the caller passed.

    Raises:
        InputError: for other values, integer and bool tensors included, and for nested and sparse tensors.

    Example:
        >>> check_data(torch.zeros(2)).shape
        torch.Size([2])
    """
    if not isinstance(x, Tensor):
        raise InputError("dropout acts on a tensor", got=x, fix="Convert the data with torch.as_tensor")
    if not (x.is_floating_point() or x.is_complex()):
        raise InputError("dropout acts on floating-point data", got=x.dtype,
                         fix="Convert the data, as in x.float(), or drop before rounding to integers")
    if x.is_nested or x.layout is not torch.strided:
        raise InputError("dropout acts on dense data", got=phrase("a nested tensor" if x.is_nested else f"layout {x.layout}"),
                         fix="Drop in x.values(), which are dense, and build the tensor from them anew")
    return x


def check_scaling(scaling: Any) -> int:
    """Whether survivors are scaled in training, `INVERTED`, or, at `UNSCALED`, everything in evaluation.

    Args:
        scaling: ``"inverted"`` or ``"classic"``.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_scaling("inverted"), check_scaling("classic")
        (1, 0)
    """
    if scaling not in ("inverted", "classic"):
        raise InputError('scaling is "inverted" or "classic"', got=scaling,
                         fix='"inverted" scales survivors in training; "classic" scales all values in evaluation')
    return INVERTED if scaling == "inverted" else UNSCALED


def compute_dtypes(dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype]:
    """The types in which values are scaled, and of the scale: single precision, or double for double data.

    Args:
        dtype: a floating-point or complex type.

    Example:
        >>> compute_dtypes(torch.bfloat16), compute_dtypes(torch.complex128)
        ((torch.float32, torch.float32), (torch.complex128, torch.float64))
    """
    factor = torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
    if not dtype.is_complex:
        return factor, factor
    return (torch.complex128 if factor is torch.float64 else torch.complex64), factor
