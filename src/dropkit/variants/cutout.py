"""Cutout and random erasing: rectangles of the input are erased."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data
from dropkit.variants.draw import acting_rate, draw_keep, draw_noise
from dropkit.variants.site import RateSite

Range = tuple[float, float]


def cutout(x: Tensor, p: float | Tensor = 1.0, training: bool = True, *, size: int = 16, count: int = 1, value: float = 0.0,
           generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Erase squares of images at random in training.

    ``y = value`` inside squares of side L and ``y = x`` elsewhere. The centre of a square is uniform over the pixels, so that
    it may reach over a border and is cut there. p is the probability that an example is treated at all.

    Args:
        x: images, floating-point data.
        p: probability of erasing in an example, in [0, 1]. Default: 1.
        training: whether to erase. Default: True.
        size: L, the whole side, at least 1. Default: 16.
        count: squares in an example, at least 1. Default: 1.
        value: what is written. Default: 0, the mean of normalised images.
        generator: draw the seeds from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, other numbers of dimensions, a size or count below 1,
            or a value that is no number.

    Shape:
        x: (N, C, H, W) or (C, H, W). Output: as x.

    Use:
        On normalised input images, as augmentation; it makes a classifier look at more than the most telling part. Not where
        the answer may lie in one small part, such as small objects to be found, and not on hidden layers: see `drop_block2d`.

    Rates:
        Sides of 8 to 16 for images of 32 x 32: 16 for CIFAR-10 and 8 for CIFAR-100 in the paper.

    Evidence:
        The paper reports a test error of 2.56 % on CIFAR-10 with shake-shake regularisation, the best of its time.

    Example:
        >>> int((cutout(torch.ones(1, 1, 32, 32), size=4) == 0).sum()) in range(4, 17)
        True

    References:
        DeVries, Taylor: "Improved regularization of convolutional neural networks with cutout", 2017. The naming dispute: here
        and in the authors' code L is the whole side; one published version takes it for half of it and erases 2L.
    """
    side, squares, written = _check_count(size, "size"), _check_count(count, "count"), _check_value(value)
    rate = acting_rate(p, training, generator, stream, uses=2)
    if rate is None:
        return x
    images = _check_images(x)
    chance = draw_noise((len(images), 2, squares), "uniform", generator, stream, device=x.device)
    inside = None
    for axis, length in enumerate(x.shape[-2:]):
        begin = (chance[:, axis] * length).floor() - side // 2
        hit = _between(length, begin, begin + side, x.device)
        inside = hit[..., :, None] if inside is None else inside & hit[..., None, :]
    assert inside is not None
    return _erase(images, inside.any(1)[:, None], rate, written, generator, stream).view(x.shape)


class Cutout(RateSite):
    """Erase squares of images at random in training; `cutout` as a module.

    Args:
        p: probability of erasing in an example, in [0, 1]. Default: 1.
        size: the side of a square, at least 1. Default: 16.
        count: squares in an example, at least 1. Default: 1.
        value: what is written. Default: 0.

    Raises:
        InputError: for a rate outside [0, 1], or a size or count below 1.

    Shape:
        Input: (N, C, H, W) or (C, H, W). Output: as the input.

    Example:
        >>> Cutout(size=8)
        Cutout(p=1.0, size=8)
    """

    extras: ClassVar[Mapping[str, Any]] = {"size": 16, "count": 1, "value": 0.0}

    def __init__(self, p: float = 1.0, *, size: int = 16, count: int = 1, value: float = 0.0) -> None:
        super().__init__()
        self.p, self.value = p, _check_value(value)
        self.size, self.count = _check_count(size, "size"), _check_count(count, "count")

    def forward(self, input: Tensor) -> Tensor:
        """Erase in training mode; see `cutout`.

        Args:
            input: images.
        """
        return cutout(input, self.current_rate(), self.training, size=self.size, count=self.count, value=self.value,
                      stream=self.stream)


def random_erasing(x: Tensor, p: float | Tensor = 0.5, training: bool = True, *, area: Range = (0.02, 0.33),
                   aspect: Range = (0.3, 3.3), value: float = 0.0, generator: torch.Generator | None = None,
                   stream: str | None = None) -> Tensor:
    """Erase a rectangle of random size in images at random in training.

    ``y = value`` inside a rectangle that lies wholly in the image and ``y = x`` elsewhere. Its area is a fraction of the
    image's, uniform in a range; the logarithm of its aspect, height over width, is uniform in a range. Both sides are rounded
    to pixels and cut to the image's, where the paper draws again until they fit. p is the
    probability that an example is treated at all.

    Args:
        x: images, floating-point data.
        p: probability of erasing in an example, in [0, 1]. Default: 0.5.
        training: whether to erase. Default: True.
        area: least and largest fraction, in (0, 1].
        aspect: least and largest ratio, above 0.
        value: what is written. Default: 0.
        generator: draw the seeds from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, other numbers of dimensions, a range out of order, or a
            value that is no number.

    Shape:
        x: (N, C, H, W) or (C, H, W). Output: as x.

    Use:
        On normalised input images, as augmentation, where objects may be hidden in part. Not where most of an image must be
        seen to answer, such as counting.

    Rates:
        p = 0.5, an area of 2 % to 33 or 40 %, an aspect of 0.3 to 3.3. The paper prefers random values to a constant.

    Evidence:
        The paper reports lower errors for image classification, and gains for detection and person re-identification.

    Example:
        >>> y = random_erasing(torch.ones(4, 3, 16, 16), p=1.0)
        >>> bool((y == 0).flatten(1).any(1).all())
        True

    References:
        Zhong, Zheng, Kang, Li, Yang: "Random erasing data augmentation", AAAI 2020.
    """
    written = _check_value(value)
    (low, high), (flat, tall) = _check_range(area, "area", 1.0), _check_range(aspect, "aspect", sys.float_info.max)
    rate = acting_rate(p, training, generator, stream, uses=2)
    if rate is None:
        return x
    images = _check_images(x)
    height, width = images.shape[-2:]
    u = draw_noise((len(images), 4, 1), "uniform", generator, stream, device=x.device)
    surface = (low + (high - low) * u[:, 0]) * height * width
    ratio = (math.log(flat) + (math.log(tall) - math.log(flat)) * u[:, 1]).exp()
    inside = None
    for length, side, place in ((height, (surface * ratio).sqrt(), u[:, 2]), (width, (surface / ratio).sqrt(), u[:, 3])):
        pixels = side.round().clamp(1, max(length, 1))
        begin = (place * (length - pixels + 1)).floor()
        hit = _between(length, begin, begin + pixels, x.device)
        inside = hit[..., :, None] if inside is None else inside & hit[..., None, :]
    assert inside is not None
    return _erase(images, inside, rate, written, generator, stream).view(x.shape)


class RandomErasing(RateSite):
    """Erase a rectangle of random size in images at random in training; `random_erasing` as a module.

    Args:
        p: probability of erasing in an example, in [0, 1]. Default: 0.5.
        area: least and largest fraction of the image, in (0, 1].
        aspect: least and largest ratio of height to width, above 0.
        value: what is written. Default: 0.

    Raises:
        InputError: for a rate outside [0, 1], or a range out of order.

    Shape:
        Input: (N, C, H, W) or (C, H, W). Output: as the input.

    Example:
        >>> RandomErasing(0.25)
        RandomErasing(p=0.25)
    """

    extras: ClassVar[Mapping[str, Any]] = {"area": (0.02, 0.33), "aspect": (0.3, 3.3), "value": 0.0}

    def __init__(self, p: float = 0.5, *, area: Range = (0.02, 0.33), aspect: Range = (0.3, 3.3), value: float = 0.0) -> None:
        super().__init__()
        self.p, self.value = p, _check_value(value)
        self.area, self.aspect = _check_range(area, "area", 1.0), _check_range(aspect, "aspect", sys.float_info.max)

    def forward(self, input: Tensor) -> Tensor:
        """Erase in training mode; see `random_erasing`.

        Args:
            input: images.
        """
        return random_erasing(input, self.current_rate(), self.training, area=self.area, aspect=self.aspect,
                              value=self.value, stream=self.stream)


def _between(length: int, begin: Tensor, end: Tensor, device: torch.device) -> Tensor:
    pixels = torch.arange(length, device=device)
    return (pixels >= begin[..., None]) & (pixels < end[..., None])


def _erase(x: Tensor, inside: Tensor, rate: Tensor, value: float, generator: torch.Generator | None,
           stream: str | None) -> Tensor:
    treated = ~draw_keep((x.shape[0], 1, 1, 1), rate, generator, stream, device=x.device)
    return torch.where(inside & treated, value, x)


def _check_images(x: Tensor) -> Tensor:
    if check_data(x).dim() not in (3, 4):
        raise InputError("images come in the shape (N, C, H, W), or (C, H, W) for one", got=tuple(x.shape),
                         fix="Add the missing dimension: x[None]")
    return x if x.dim() == 4 else x[None]


def _check_count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is an integer of at least 1", got=value, fix=f"Pass an int such as {name}=8")
    return value


def _check_value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError("value is the number that is written", got=value, fix="Pass a float such as 0.0")
    return float(value)


def _check_range(values: Any, name: str, top: float) -> Range:
    pair = tuple(values) if isinstance(values, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(v, int | float) for v in pair) or not 0 < pair[0] <= pair[1] <= top:
        raise InputError(f"{name} is a pair: the least and the largest, above 0" + (" and at most 1" if top == 1 else ""),
                         got=values, fix="Pass a pair such as (0.1, 0.3)")
    return float(pair[0]), float(pair[1])
