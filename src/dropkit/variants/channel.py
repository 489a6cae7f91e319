"""Dropout of whole channels, with the shapes, warnings and errors of torch's Dropout1d, 2d and 3d."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.variants.dropout import dropout
from dropkit.variants.site import DropoutSite


class DimensionError(InputError, RuntimeError):
    """An input with a number of dimensions that cannot be handled; a RuntimeError because torch raises one."""


def dropout1d(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *, channel_dim: int = 1,
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero whole channels of sequences at random in training.

    ``y = x * m / (1 - p)`` with one entry of the mask m for each channel of each example; x is the input, p the rate.

    Args:
        x: data of a floating-point type.
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        inplace: write into x and return it. Default: False.
        channel_dim: where the channels are in the batched layout: 1, or -1 when they come last.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        DimensionError: unless x has 2 or 3 dimensions.
        InputError: for a rate outside [0, 1], integer data in training, or a wrong ``channel_dim``.

    Shape:
        x: (N, C, L) or (C, L). Output: as x.

    Use:
        Between convolutions over time or text, where neighbouring steps carry nearly the same value and dropping single
        elements would change little.

    Rates:
        0.1 to 0.3.

    Evidence:
        The paper cited found that dropping single pixels of a feature map did not help where neighbours are strongly
        correlated, and that dropping whole maps did.

    Example:
        >>> y = dropout1d(torch.ones(2, 3, 4))
        >>> bool((y == y[:, :, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun, Bregler: "Efficient object localization using convolutional networks",
        CVPR 2015.
    """
    if x.dim() not in (2, 3):
        raise DimensionError("dropout1d takes inputs of 2 dimensions (C, L) or 3 (N, C, L)", got=tuple(x.shape),
                             fix="Use dropout2d or dropout3d for data with more spatial dimensions")
    share_dims = _all_but_channel(x.dim(), channel_dim, batched=x.dim() == 3)
    return dropout(x, p, training, inplace, share_dims=share_dims, generator=generator, stream=stream)


def dropout2d(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *, channel_dim: int = 1,
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero whole channels of images at random in training.

    ``y = x * m / (1 - p)`` with one entry of the mask m for each channel of each example; x is the input, p the rate.
    As in torch, dimension 0 is always the batch: three dimensions are read as (N, C, L), with a warning.

    Args:
        x: data of a floating-point type.
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        inplace: write into x and return it. Default: False.
        channel_dim: where the channels are: 1, or -1 when they come last.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        DimensionError: for an input of fewer than 2 dimensions in training.
        InputError: for a rate outside [0, 1], integer data in training, or a wrong ``channel_dim``.

    Shape:
        x: (N, C, H, W). Output: as x.

    Use:
        Between convolutions over images, where neighbouring pixels carry nearly the same value and dropping single elements
        would change little.

    Rates:
        0.1 to 0.3.

    Evidence:
        The paper cited found that dropping single pixels of a feature map did not help where neighbours are strongly
        correlated, and that dropping whole maps did.

    Example:
        >>> y = dropout2d(torch.ones(2, 8, 8, 3), channel_dim=-1)
        >>> bool((y == y[:, :1, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun, Bregler: "Efficient object localization using convolutional networks",
        CVPR 2015.
    """
    rank = x.dim()
    if rank == 3:
        _warn("dropout2d: Received a 3D input, which is read as (N, C, L) with whole channels dropped, as "
              "torch.nn.functional.dropout2d does. Use dropout1d to say so, or x.unsqueeze(0) for one image (C, H, W).")
    elif rank != 4:
        _warn(f"dropout2d: Received a {rank}-D input instead of (N, C, H, W). "
              "Use dropout to drop single elements, dropout1d or dropout3d for other numbers of spatial dimensions.")
    if rank < 2 and training and p != 0:
        raise DimensionError("channel dropout takes inputs of at least 2 dimensions", got=tuple(x.shape),
                             fix="Use dropout for data without channels")
    share_dims = _all_but_channel(rank, channel_dim, batched=True) if rank >= 2 else ()
    return dropout(x, p, training, inplace, share_dims=share_dims, generator=generator, stream=stream)


def dropout3d(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *, channel_dim: int = 1,
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero whole channels of volumes at random in training.

    ``y = x * m / (1 - p)`` with one entry of the mask m for each channel of each example; x is the input, p the rate.

    Args:
        x: data of a floating-point type.
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        inplace: write into x and return it. Default: False.
        channel_dim: where the channels are in the batched layout: 1, or -1 when they come last.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        DimensionError: for an input without dimensions in training.
        InputError: for a rate outside [0, 1], integer data in training, or a wrong ``channel_dim``.

    Shape:
        x: (N, C, D, H, W) or (C, D, H, W). Output: as x. Any other number of dimensions is warned about and, as in
        torch, read as one example whose channels come first.

    Use:
        Between convolutions over volumes and videos, where neighbouring voxels carry nearly the same value and dropping
        single elements would change little.

    Rates:
        0.1 to 0.3.

    Evidence:
        The paper cited found that dropping single pixels of a feature map did not help where neighbours are strongly
        correlated, and that dropping whole maps did.

    Example:
        >>> y = dropout3d(torch.ones(2, 3, 4, 4, 4))
        >>> bool((y == y[:, :, :1, :1, :1]).all())
        True

    References:
        Tompson, Goroshin, Jain, LeCun, Bregler: "Efficient object localization using convolutional networks",
        CVPR 2015.
    """
    rank = x.dim()
    if rank not in (4, 5):
        _warn(f"dropout3d: Received a {rank}-D input instead of (N, C, D, H, W) or (C, D, H, W). "
              "Use dropout to drop single elements, dropout1d or dropout2d for fewer spatial dimensions.")
    if rank < 1 and training and p != 0:
        raise DimensionError("channel dropout takes inputs with channels", got=tuple(x.shape),
                             fix="Use dropout for data without channels")
    share_dims = _all_but_channel(rank, channel_dim, batched=rank == 5) if rank else ()
    return dropout(x, p, training, inplace, share_dims=share_dims, generator=generator, stream=stream)


class _ChannelDropout(DropoutSite):
    channel_dim: int = 1
    extras: ClassVar[Mapping[str, Any]] = {"channel_dim": 1}

    def __init__(self, p: float = 0.5, inplace: bool = False, *, channel_dim: int = 1) -> None:
        super().__init__(p, inplace)
        self.channel_dim = _check_channel_dim(channel_dim)


class Dropout1d(_ChannelDropout):
    """Zero whole channels of sequences at random in training; `dropout1d` as a module.

    Args:
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        channel_dim: where the channels are in the batched layout: 1, or -1 when they come last.

    Raises:
        InputError: for a rate outside [0, 1] or a wrong ``channel_dim``.

    Shape:
        Input: (N, C, L) or (C, L). Output: as the input.

    Example:
        >>> Dropout1d(0.2, channel_dim=-1)
        Dropout1d(p=0.2, inplace=False, channel_dim=-1)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `dropout1d`.

        Args:
            input: floating-point data, (N, C, L) or (C, L).
        """
        return dropout1d(input, self.current_rate(), self.training, self.inplace, channel_dim=self.channel_dim,
                         stream=self.stream)


class Dropout2d(_ChannelDropout):
    """Zero whole channels of images at random in training; `dropout2d` as a module.

    Args:
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        channel_dim: where the channels are: 1, or -1 when they come last.

    Raises:
        InputError: for a rate outside [0, 1] or a wrong ``channel_dim``.

    Shape:
        Input: (N, C, H, W). Output: as the input.

    Example:
        >>> Dropout2d(0.2)
        Dropout2d(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `dropout2d`.

        Args:
            input: floating-point data, (N, C, H, W).
        """
        return dropout2d(input, self.current_rate(), self.training, self.inplace, channel_dim=self.channel_dim,
                         stream=self.stream)


class Dropout3d(_ChannelDropout):
    """Zero whole channels of volumes at random in training; `dropout3d` as a module.

    Args:
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        channel_dim: where the channels are in the batched layout: 1, or -1 when they come last.

    Raises:
        InputError: for a rate outside [0, 1] or a wrong ``channel_dim``.

    Shape:
        Input: (N, C, D, H, W) or (C, D, H, W). Output: as the input.

    Example:
        >>> Dropout3d(0.2)
        Dropout3d(p=0.2, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `dropout3d`.

        Args:
            input: floating-point data, (N, C, D, H, W) or (C, D, H, W).
        """
        return dropout3d(input, self.current_rate(), self.training, self.inplace, channel_dim=self.channel_dim,
                         stream=self.stream)


def _all_but_channel(rank: int, channel_dim: int, batched: bool) -> tuple[int, ...]:
    """The dimensions a channel's elements span, in an input that may lack the batch dimension."""
    full = rank if batched else rank + 1
    channel = channel_dim % full if -full <= _check_channel_dim(channel_dim) < full else 0
    if channel == 0:
        raise InputError("channel_dim is a dimension of the input other than the batch's", got=channel_dim,
                         fix=f"The batched input has {full} dimensions: pass 1, or -1 when channels come last")
    kept = {0, channel} if batched else {channel - 1}
    return tuple(dim for dim in range(rank) if dim not in kept)


def _check_channel_dim(channel_dim: Any) -> int:
    if isinstance(channel_dim, bool) or not isinstance(channel_dim, int) or channel_dim == 0:
        raise InputError("channel_dim is an integer other than 0, the batch's dimension", got=channel_dim,
                         fix="Pass 1, or -1 when channels come last")
    return channel_dim


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)
