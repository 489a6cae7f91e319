"""DropBlock: dropout of contiguous blocks, of which the expected dropped fraction is the rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.core.operators import define
from dropkit.kernels.dispatch import is_eager
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.site import RateSite

Size = int | tuple[int, ...]
_STEPS = 60  # halvings of [0, 1]: to the last bit of a float64 near 1, and of a rate of 2^-32


def drop_block1d(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, block_size: Size = 7,
                 renormalise: str = "sample", shared: bool = False, generator: torch.Generator | None = None,
                 stream: str | None = None) -> Tensor:
    """Zero contiguous stretches of sequences at random in training; `drop_block2d` for one dimension.

    ``y = x m s``: the mask m is 0 on every block of k neighbours that a seed begins, and the scale s restores the sum, as in
    `drop_block2d`.

    Args:
        x: floating-point data.
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        block_size: k, cut to the length of the sequence. Default: 7.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, another number of dimensions, or a block size below 1.

    Shape:
        x: (N, C, L) or (C, L). Output: as x.

    Use:
        In convolutional networks over time, where `dropout1d` would drop too much at once. Not on independent steps.

    Rates:
        0.1, with blocks of 7, the rate rising from 0 over training.

    Evidence:
        None published for one dimension that we know of; see `drop_block2d`.

    Example:
        >>> drop_block1d(torch.ones(1, 2, 8), p=1.0).sum()
        tensor(0.)

    References:
        Ghiasi, Lin, Le: "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.
    """
    return _drop_block(x, p, training, 1, block_size, renormalise, shared, generator, stream)


def drop_block2d(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, block_size: Size = 7,
                 renormalise: str = "sample", shared: bool = False, generator: torch.Generator | None = None,
                 stream: str | None = None) -> Tensor:
    """Zero square regions of feature maps at random in training.

    ``y = x m s``: seeds fall with probability gamma on each place where a whole block of k x k fits, and the mask m is 0 on
    the blocks that they begin. gamma solves ``mean over positions of 1 - (1 - gamma)^c = p``, where c is how many blocks
    cover a position: the expected dropped fraction is p, at borders and for overlapping blocks too. The scale s is the number
    of positions over the number kept, in the example or in the batch, or 1. It preserves the sum of a constant input of which
    anything is kept. The mean of other inputs is preserved only approximately: positions in the middle are covered by more
    blocks, so they are dropped more often than those at the borders, and an example of which nothing is kept is all zero.

    Args:
        x: floating-point data.
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        block_size: k, or one size a dimension; cut to the size of the map. Default: 7.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, another number of dimensions, or a block size below 1.

    Shape:
        x: (N, C, H, W) or (C, H, W). Output: as x.

    Use:
        In the later stages of convolutional networks, after convolutions and on skip connections, where single zeros are
        filled in from their neighbours. The block should be smaller than the map: one that covers it drops whole channels, as
        `dropout2d` does. Not on images or on fully connected layers; for images see `cutout`.

    Rates:
        0.1, with blocks of 7, the rate rising linearly from 0 over training.

    Evidence:
        The paper reports 78.1 % instead of 76.5 % top-1 accuracy for ResNet-50 on ImageNet, more than other forms of dropout.

    Example:
        >>> y = drop_block2d(torch.ones(2, 3, 7, 7), p=0.5, block_size=7)   # the whole map or nothing
        >>> sorted({float(plane.mean()) == 0 for plane in y.flatten(0, 1)})
        [False, True]

    References:
        Ghiasi, Lin, Le: "DropBlock: a regularization method for convolutional networks", NeurIPS 2018. The naming dispute: the
        paper's gamma is ``p / k^2`` times positions over places for seeds, which drops less than p because blocks overlap;
        implementations that take it differ from this one at the same p, and a ``drop_prob`` is their nominal rate.
    """
    return _drop_block(x, p, training, 2, block_size, renormalise, shared, generator, stream)


def drop_block3d(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, block_size: Size = 3,
                 renormalise: str = "sample", shared: bool = False, generator: torch.Generator | None = None,
                 stream: str | None = None) -> Tensor:
    """Zero cuboids of volumes at random in training; `drop_block2d` for three dimensions.

    ``y = x m s``: the mask m is 0 on every cuboid that a seed begins, and the scale s restores the sum, as in
    `drop_block2d`.

    Args:
        x: floating-point data.
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        block_size: k, or one size a dimension; cut to the size of the volume. Default: 3.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, another number of dimensions, or a block size below 1.

    Shape:
        x: (N, C, D, H, W) or (C, D, H, W). Output: as x.

    Use:
        In convolutional networks over volumes and videos, as `drop_block2d` on images' feature maps.

    Rates:
        0.1, with blocks of 3 to 7.

    Evidence:
        None published for three dimensions that we know of; see `drop_block2d`.

    Example:
        >>> drop_block3d(torch.ones(1, 2, 4, 4, 4), p=1.0).sum()
        tensor(0.)

    References:
        Ghiasi, Lin, Le: "DropBlock: a regularization method for convolutional networks", NeurIPS 2018.
    """
    return _drop_block(x, p, training, 3, block_size, renormalise, shared, generator, stream)


class _DropBlock(RateSite):
    extras: ClassVar[Mapping[str, Any]] = {"block_size": 7, "renormalise": "sample", "shared": False}

    def __init__(self, p: float = 0.1, block_size: Size | None = None, *, renormalise: str = "sample",
                 shared: bool = False) -> None:
        super().__init__()
        size = self.extras["block_size"] if block_size is None else block_size
        self.p, self.block_size, self.renormalise, self.shared = p, _check_block(size), _check_scale(renormalise), shared


class DropBlock1d(_DropBlock):
    """Zero contiguous stretches of sequences at random in training; `drop_block1d` as a module.

    Args:
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        block_size: length of a block. Default: 7.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.

    Raises:
        InputError: for a rate outside [0, 1], a block size below 1 or an unknown renormalisation.

    Shape:
        Input: (N, C, L) or (C, L). Output: as the input.

    Example:
        >>> DropBlock1d(0.1, 5)
        DropBlock1d(p=0.1, block_size=5)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_block1d`.

        Args:
            input: floating-point data.
        """
        return drop_block1d(input, self.current_rate(), self.training, block_size=self.block_size,
                            renormalise=self.renormalise, shared=self.shared, stream=self.stream)


class DropBlock2d(_DropBlock):
    """Zero square regions of feature maps at random in training; `drop_block2d` as a module.

    Args:
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        block_size: side of a block, or one size a dimension. Default: 7.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.

    Raises:
        InputError: for a rate outside [0, 1], a block size below 1 or an unknown renormalisation.

    Shape:
        Input: (N, C, H, W) or (C, H, W). Output: as the input.

    Example:
        >>> DropBlock2d(0.1, (3, 5))
        DropBlock2d(p=0.1, block_size=(3, 5))
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_block2d`.

        Args:
            input: floating-point data.
        """
        return drop_block2d(input, self.current_rate(), self.training, block_size=self.block_size,
                            renormalise=self.renormalise, shared=self.shared, stream=self.stream)


class DropBlock3d(_DropBlock):
    """Zero cuboids of volumes at random in training; `drop_block3d` as a module.

    Args:
        p: expected fraction that is dropped, in [0, 1]. Default: 0.1.
        block_size: side of a block, or one size a dimension. Default: 3.
        renormalise: ``"sample"``, ``"batch"`` or ``"none"``.
        shared: whether all channels share one mask. Default: False.

    Raises:
        InputError: for a rate outside [0, 1], a block size below 1 or an unknown renormalisation.

    Shape:
        Input: (N, C, D, H, W) or (C, D, H, W). Output: as the input.

    Example:
        >>> DropBlock3d(0.1)
        DropBlock3d(p=0.1)
    """

    extras: ClassVar[Mapping[str, Any]] = {"block_size": 3, "renormalise": "sample", "shared": False}

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_block3d`.

        Args:
            input: floating-point data.
        """
        return drop_block3d(input, self.current_rate(), self.training, block_size=self.block_size,
                            renormalise=self.renormalise, shared=self.shared, stream=self.stream)


def seed_rate(p: Tensor, sizes: Sequence[int], blocks: Sequence[int]) -> Tensor:
    """The probability of a seed at which the expected dropped fraction is p, by bisection.

    Args:
        p: float64 tensor with no dimensions, in [0, 1].
        sizes: of the map.
        blocks: of a block, none larger than the map.

    Example:
        >>> seed_rate(torch.tensor(0.1, dtype=torch.float64), (7, 7), (7, 7))
        tensor(0.1000, dtype=torch.float64)
    """
    counts, shares = (torch.tensor(values, dtype=torch.float64) for values in _coverage(tuple(sizes), tuple(blocks)))
    low, high = torch.zeros_like(p), torch.ones_like(p)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        dropped = -(shares * torch.expm1(counts * torch.log1p(-middle))).sum()  # 1 - (1 - gamma)^c without cancellation
        low, high = torch.where(dropped < p, middle, low), torch.where(dropped < p, high, middle)
    return torch.where(p >= 1, torch.ones_like(p), high)


@lru_cache(maxsize=1024)
def _coverage(sizes: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """How many blocks can cover a position, and the fraction of positions for each such count."""
    histogram = {1: 1.0}
    for size, block in zip(sizes, blocks, strict=True):
        fits = size - block + 1
        along: dict[int, int] = {}
        for i in range(size):
            count = min(i, fits - 1) - max(0, i - block + 1) + 1
            along[count] = along.get(count, 0) + 1
        merged: dict[int, float] = {}
        for a, share in histogram.items():
            for b, number in along.items():
                merged[a * b] = merged.get(a * b, 0.0) + share * number / size
        histogram = merged
    return tuple(histogram), tuple(histogram.values())


@lru_cache(maxsize=4096)
def _cached_seed_rate(p: float, sizes: tuple[int, ...], blocks: tuple[int, ...]) -> float:
    return float(seed_rate(torch.tensor(p, dtype=torch.float64, device="cpu"), sizes, blocks))


def _make_seed_rate(p: Tensor, sizes: Sequence[int], blocks: Sequence[int]) -> Tensor:
    return torch.tensor(_cached_seed_rate(float(p), tuple(sizes), tuple(blocks)), dtype=torch.float64, device="cpu")


# One opaque step to compilers, which would otherwise unroll the bisection.
_seed_rate = define("drop_block_seed_rate(Tensor p, int[] sizes, int[] blocks) -> Tensor", _make_seed_rate,
                    lambda p, sizes, blocks: torch.empty_like(p))


def _drop_block(x: Tensor, p: float | Tensor, training: bool, spatial: int, block_size: Size, renormalise: str, shared: bool,
                generator: torch.Generator | None, stream: str | None) -> Tensor:
    size, scaling = _one_a_dimension(block_size, spatial), _check_scale(renormalise)
    if x.dim() not in (spatial + 1, spatial + 2):
        raise InputError(f"drop_block{spatial}d takes inputs of {spatial + 2} dimensions, or {spatial + 1} without the batch",
                         got=tuple(x.shape), fix="Take the variant for the data's number of spatial dimensions")
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return x
    batched = check_data(x) if x.dim() == spatial + 2 else x[None]
    maps = tuple(batched.shape[2:])
    blocks = tuple(max(1, min(block, length)) for block, length in zip(size, maps, strict=True))
    gamma = _seed_rate(rate, maps, blocks)
    channels = 1 if shared else batched.shape[1]
    places = [batched.shape[0], channels, *(length - block + 1 for length, block in zip(maps, blocks, strict=True))]
    keep = _grow(draw_keep(places, gamma, generator, stream, device=x.device), blocks)
    y = _scaled(batched, keep, scaling)
    return y if x.dim() == spatial + 2 else y[0]


def _grow(keep: Tensor, blocks: Sequence[int]) -> Tensor:
    """The mask of the map from the mask of seeds: each dimension grows by doubling, so k costs log k steps."""
    for dim, block in enumerate(blocks, start=2):
        if block == 1:
            continue
        border = [0, 0] * (keep.dim() - dim - 1) + [block - 1, block - 1]
        keep, reach = torch.nn.functional.pad(keep, border, value=True), 1
        while reach < block:
            step = min(reach, block - reach)
            keep = keep.narrow(dim, step, keep.shape[dim] - step) & keep.narrow(dim, 0, keep.shape[dim] - step)
            reach += step
    return keep


def _scaled(x: Tensor, keep: Tensor, scaling: str) -> Tensor:
    if is_eager(x) and not x.is_contiguous():  # `where` lays its result out as the mask: channels last stay so
        keep = torch.empty_like(x, dtype=torch.bool).copy_(keep)
    left = torch.where(keep, x, 0.0)
    if scaling == "none":
        return left
    dims = tuple(range(1 if scaling == "sample" else 0, keep.dim()))
    wide, factor = compute_dtypes(x.dtype)
    kept = keep.sum(dims, keepdim=True).to(factor)
    size = 1
    for dim in dims:
        size = size * keep.shape[dim]
    # With nothing kept all is zero, whatever the scale. torch rounds a number over a tensor twice, as reciprocal and product.
    scale = torch.full_like(kept, size) / kept.clamp(min=1)
    return left.mul_(scale) if x.dtype is wide else (left.to(wide) * scale).to(x.dtype)


def _check_block(block_size: Any) -> Size:
    sizes = block_size if isinstance(block_size, tuple) else (block_size,)
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise InputError("a block size is an integer of at least 1, or a tuple of them", got=block_size, fix="Pass 7 or (7, 7)")
    return block_size  # type: ignore[no-any-return]


def _one_a_dimension(block_size: Size, spatial: int) -> tuple[int, ...]:
    checked = _check_block(block_size)
    if isinstance(checked, int):
        return (checked,) * spatial
    if len(checked) != spatial:
        raise InputError(f"block sizes are {spatial}, one a spatial dimension", got=checked, fix="Pass an int for all of them")
    return checked


def _check_scale(renormalise: Any) -> str:
    if renormalise not in ("sample", "batch", "none"):
        raise InputError('renormalise is "sample", "batch" or "none"', got=renormalise,
                         fix='"sample" scales each example by what it kept')
    return str(renormalise)
