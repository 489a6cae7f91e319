"""Corruption of inputs for denoising autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import UNSCALED, check_data
from dropkit.variants.draw import acting_rate, draw_keep, draw_masked
from dropkit.variants.site import RateSite

NOISES = ("mask", "salt_and_pepper")


@overload
def denoising_mask(x: Tensor, p: float | Tensor = ..., training: bool = ..., *, noise: str = ..., value: float = ...,
                   limits: tuple[float, float] | None = ..., return_mask: Literal[False] = ...,
                   generator: torch.Generator | None = ..., stream: str | None = ...) -> Tensor: ...


@overload
def denoising_mask(x: Tensor, p: float | Tensor = ..., training: bool = ..., *, noise: str = ..., value: float = ...,
                   limits: tuple[float, float] | None = ..., return_mask: bool,
                   generator: torch.Generator | None = ..., stream: str | None = ...) -> Tensor | tuple[Tensor, Tensor]: ...


def denoising_mask(x: Tensor, p: float | Tensor = 0.25, training: bool = True, *, noise: str = "mask", value: float = 0.0,
                   limits: tuple[float, float] | None = None, return_mask: bool = False,
                   generator: torch.Generator | None = None,
                   stream: str | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Corrupt elements at random in training, without rescaling the others.

    ``y = x`` where ``m = 1`` and ``y = v`` where ``m = 0``, in training, and ``y = x`` in evaluation; x is the input, m the
    mask, whose entries are 0 with probability p and otherwise 1, independently. v is one value with masking noise, and one of
    two limits, each with probability 1/2, with salt-and-pepper noise.

    Args:
        x: data of a floating-point type.
        p: probability of corrupting an element, in [0, 1]. Default: 0.25.
        training: whether to corrupt. Default: True.
        noise: ``"mask"`` or ``"salt_and_pepper"``. Default: ``"mask"``.
        value: what masking noise writes. Default: 0.
        limits: the smallest and largest value that the data can have, which salt-and-pepper noise writes; (0, 1) for
            intensities. To be given with that noise, and only then.
        return_mask: whether to return the pair of the corrupted data and a bool tensor, true where an element was chosen for
            corruption, for a loss that weighs those elements differently. Default: False.
        generator: draw the seeds from here: one, or two for salt-and-pepper noise.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x, x itself where nothing is to be done; or the pair of it and the bool tensor.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, an unknown noise, a value that is not a number, or
            limits that are missing, out of place or not two increasing numbers.

    Shape:
        x: any. Output, and the bool tensor: as x.

    Use:
        On the input of an autoencoder that is to restore the uncorrupted x. Since kept values are not rescaled, a mask shifts
        the mean: not as a regulariser inside a classifier, for which `dropout` is made.

    Rates:
        0.1 to 0.5; the higher ones for redundant data such as images.

    Evidence:
        Vincent et al. (2008, 2010) report that deep networks whose layers are trained to undo such corruption classify better
        than with layers trained as ordinary autoencoders.

    Example:
        >>> denoising_mask(torch.ones(3), p=1.0, value=-1.0)
        tensor([-1., -1., -1.])
        >>> y, chosen = denoising_mask(torch.full((1000,), 0.5), noise="salt_and_pepper", limits=(0.0, 1.0), return_mask=True)
        >>> y.unique(), bool((chosen == (y != 0.5)).all())
        (tensor([0.0000, 0.5000, 1.0000]), True)

    References:
        Vincent, Larochelle, Bengio, Manzagol: "Extracting and composing robust features with denoising autoencoders",
        ICML 2008. Vincent, Larochelle, Lajoie, Bengio, Manzagol: "Stacked denoising autoencoders", JMLR 2010. They corrupt a
        fixed number of elements of each example; here each element is corrupted independently.
    """
    _check_noise(noise, value, limits)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        if limits is not None:
            acting_rate(p, training, generator, stream)  # two draws count as two uses, at rate 0 too
        return (x, torch.zeros_like(x, dtype=torch.bool)) if return_mask else x
    if noise == "mask" and value == 0 and not return_mask:
        return draw_masked(check_data(x), rate, x.shape, generator, stream, scaling=UNSCALED)
    chosen = draw_keep(check_data(x).shape, rate, generator, stream, device=x.device).logical_not()
    y = x.masked_fill(chosen, value) if limits is None else _salt_and_pepper(x, chosen, limits, generator, stream)
    return (y, chosen) if return_mask else y


class DenoisingMask(RateSite):
    """Corrupt elements at random, without rescaling the others; `denoising_mask` as a module.

    Args:
        p: probability of corrupting an element, in [0, 1]. Default: 0.25.
        noise: ``"mask"`` or ``"salt_and_pepper"``. Default: ``"mask"``.
        value: what masking noise writes. Default: 0.
        limits: the smallest and largest value that the data can have, for salt-and-pepper noise.
        return_mask: whether to return the pair of the corrupted data and where elements were chosen. Default: False.

    Raises:
        InputError: for a rate outside [0, 1], an unknown noise, a value that is not a number, or wrong limits.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> DenoisingMask(0.5, value=-1.0)
        DenoisingMask(p=0.5, value=-1.0)
    """

    noise: str = "mask"
    value: float = 0.0
    limits: tuple[float, float] | None = None
    return_mask: bool = False
    extras: ClassVar[Mapping[str, Any]] = {"noise": "mask", "value": 0.0, "limits": None, "return_mask": False}

    def __init__(self, p: float = 0.25, *, noise: str = "mask", value: float = 0.0,
                 limits: tuple[float, float] | None = None, return_mask: bool = False) -> None:
        super().__init__()
        self.p = p
        _check_noise(noise, value, limits)
        self.noise, self.value, self.limits, self.return_mask = noise, value, limits, return_mask

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Corrupt in training mode; see `denoising_mask`.

        Args:
            input: floating-point data of any shape.
        """
        return denoising_mask(input, self.current_rate(), self.training, noise=self.noise, value=self.value,
                              limits=self.limits, return_mask=self.return_mask, stream=self.stream)


def _salt_and_pepper(x: Tensor, chosen: Tensor, limits: tuple[float, float], generator: torch.Generator | None,
                     stream: str | None) -> Tensor:
    half = torch.tensor(0.5, dtype=torch.float64, device="cpu")
    salt = draw_keep(x.shape, half, generator, stream, device=x.device)
    return x.masked_fill(chosen, limits[0]).masked_fill(chosen & salt, limits[1])


def _check_noise(noise: Any, value: Any, limits: Any) -> None:
    if noise not in NOISES:
        raise InputError('noise is "mask" or "salt_and_pepper"', got=noise, fix='"mask" writes one value over all it corrupts')
    if not _is_number(value):
        raise InputError("value is a number", got=value, fix="Pass a float; 0.0 is usual")
    if noise == "mask" and limits is not None:
        raise InputError('limits go with noise="salt_and_pepper"', got=limits, fix="Leave them out, or name that noise")
    if noise == "salt_and_pepper":
        pair = isinstance(limits, tuple | list) and len(limits) == 2 and all(map(_is_number, limits))
        if not pair or not limits[0] < limits[1]:
            raise InputError("salt-and-pepper noise takes limits: the data's smallest and largest possible value", got=limits,
                             fix="Pass a pair such as limits=(0.0, 1.0)")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
