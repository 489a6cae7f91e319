"""Dropout for self-normalising networks: dropped elements take SELU's lowest value, and mean and variance are restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import ALPHA, SELU_LOWEST, compute_dtypes
from dropkit.core.rates import WHOLE, threshold
from dropkit.core.streams import rows_of, shard_of, site_key
from dropkit.kernels.dispatch import add_masked, apply_mask
from dropkit.variants.channel import DimensionError, _check_channel_dim
from dropkit.variants.draw import acting_rate
from dropkit.variants.site import DropoutSite


def alpha_dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *,
                  generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Set elements to SELU's lowest value at random, then restore mean 0 and variance 1.

    ``y = a * (x * m + a' * (1 - m)) + b`` in training and ``y = x`` in evaluation. x is the input, p the rate, m the mask,
    whose entries are 0 with probability p and otherwise 1; ``a' = -scale * alpha = -1.7581`` with SELU's constants is what a
    dropped element becomes, ``a = ((1 - p) * (1 + p * a'^2))^(-1/2)`` and ``b = -a * a' * p``. If the elements of x have mean
    0 and variance 1, so have those of y. For one fixed x the mean of y is not x.

    Args:
        x: data of a real floating-point type.
        p: probability of dropping, in [0, 1]. Default: 0.5. At 1 the output is 0 with gradient 0: the formula has no limit.
        training: whether to drop. Default: True (``torch.nn.functional.alpha_dropout`` has False).
        inplace: write the result into x and return it; torch accepts this and ignores it. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done. A dropped NaN or infinity becomes ``a * a' + b``.

    Raises:
        InputError: for a rate outside [0, 1], or data in training that is not real floating-point.

    Shape:
        x: any. Output: as x.

    Use:
        After SELU, in networks of fully connected layers initialised with variance 1/fan_in, where ordinary dropout would
        end the self-normalisation. Not after other activations and not next to normalisation layers: there use `dropout`.

    Rates:
        0.05 or 0.1.

    Evidence:
        Klambauer et al. (2017) derive a and b and report rates of 0.05 and 0.1 as those that led to good models.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> y = alpha_dropout(torch.zeros(1000), p=0.1)
        >>> y.unique()
        tensor([-1.4577,  0.1620])

    References:
        Klambauer, Unterthiner, Mayr, Hochreiter: "Self-normalizing neural networks", NIPS 2017. The paper's q is the
        probability of keeping; here p = 1 - q.
    """
    return _alpha(x, p, training, inplace, None, generator, stream)


def feature_alpha_dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *,
                          channel_dim: int = 1, generator: torch.Generator | None = None,
                          stream: str | None = None) -> Tensor:
    """Set whole channels to SELU's lowest value at random, then restore mean 0 and variance 1.

    ``y = a * (x * m + a' * (1 - m)) + b`` as in `alpha_dropout`, with one entry of the mask m for each channel of each
    example; x is the input, p the rate, a' SELU's lowest value, a and b the affine step. As in torch, dimension 0 is always
    the batch.

    Args:
        x: data of a real floating-point type.
        p: probability of dropping a channel, in [0, 1]. Default: 0.5. At 1 the output is 0 with gradient 0.
        training: whether to drop. Default: True.
        inplace: write the result into x and return it; torch accepts this and ignores it. Default: False.
        channel_dim: where the channels are: 1, or -1 when they come last.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        DimensionError: for an input of fewer than 2 dimensions.
        InputError: for a rate outside [0, 1], a wrong ``channel_dim``, or data in training that is not real floating-point.

    Shape:
        x: (N, C, ...); one example without a batch is passed as ``x[None]``. Output: as x.

    Use:
        After SELU in convolutional networks, where neighbours within a channel are so alike that dropping single elements
        hides little. Not after other activations: there use `dropout2d` and its kin.

    Rates:
        0.05 or 0.1, as for `alpha_dropout`.

    Evidence:
        None known to us of this combination: the two ideas were published and measured separately.

    Example:
        >>> y = feature_alpha_dropout(torch.ones(2, 3, 4))
        >>> bool((y == y[:, :, :1]).all())
        True

    References:
        Klambauer, Unterthiner, Mayr, Hochreiter: "Self-normalizing neural networks", NIPS 2017. Tompson, Goroshin, Jain,
        LeCun, Bregler: "Efficient object localization using convolutional networks", CVPR 2015.
    """
    if x.dim() < 2:
        raise DimensionError("feature_alpha_dropout takes inputs of at least 2 dimensions (N, C, ...)", got=tuple(x.shape),
                             fix="Use alpha_dropout for data without channels")
    _check_channel_dim(channel_dim)
    return _alpha(x, p, training, inplace, channel_dim, generator, stream)


class AlphaDropout(DropoutSite):
    """Set elements to SELU's lowest value at random, keeping mean 0 and variance 1; `alpha_dropout` as a module.

    Args:
        p: probability of dropping, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> AlphaDropout(0.1)
        AlphaDropout(p=0.1, inplace=False)
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `alpha_dropout`.

        Args:
            input: real floating-point data of any shape.
        """
        return alpha_dropout(input, self.current_rate(), self.training, self.inplace, stream=self.stream)


class FeatureAlphaDropout(DropoutSite):
    """Set whole channels to SELU's lowest value at random; `feature_alpha_dropout` as a module.

    Args:
        p: probability of dropping a channel, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        channel_dim: where the channels are: 1, or -1 when they come last.

    Raises:
        InputError: for a rate outside [0, 1] or a wrong ``channel_dim``.

    Shape:
        Input: (N, C, ...). Output: as the input.

    Example:
        >>> FeatureAlphaDropout(0.1, channel_dim=-1)
        FeatureAlphaDropout(p=0.1, inplace=False, channel_dim=-1)
    """

    channel_dim: int = 1
    extras: ClassVar[Mapping[str, Any]] = {"channel_dim": 1}

    def __init__(self, p: float = 0.5, inplace: bool = False, *, channel_dim: int = 1) -> None:
        super().__init__(p, inplace)
        self.channel_dim = _check_channel_dim(channel_dim)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `feature_alpha_dropout`.

        Args:
            input: real floating-point data, (N, C, ...).
        """
        return feature_alpha_dropout(input, self.current_rate(), self.training, self.inplace, channel_dim=self.channel_dim,
                                     stream=self.stream)


def _alpha(x: Tensor, p: float | Tensor, training: bool, inplace: bool, channel_dim: int | None,
           generator: torch.Generator | None, stream: str | None) -> Tensor:
    """Drop and restore: ``y = a * ((x - a') * m) + (a * a' + b)``, where the kernel selects and multiplies by a."""
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return x
    if not x.is_floating_point():
        raise InputError("alpha dropout acts on real floating-point data", got=x.dtype, fix="Convert the data, as in x.float()")
    wide, shape = x.to(compute_dtypes(x.dtype)[0]), x.shape
    if channel_dim is not None:
        shape = torch.Size(size if dim in (0, channel_dim % x.dim()) else 1 for dim, size in enumerate(x.shape))
    rows = rows_of(shape, generator)
    (seed, number), (lowest, offset), shard = site_key(stream, generator, rows), _affine(rate), shard_of(shape, rows)
    if channel_dim is None:
        y = apply_mask(wide - lowest, seed, rate, shape, number, ALPHA, **shard).add_(offset)
    else:  # what does not depend on x is as small as the mask, so that one pass over the data does it
        rest = apply_mask(wide.new_zeros(shape) - lowest, seed, rate, shape, number, ALPHA, **shard).add_(offset)
        y = add_masked(rest.expand_as(wide), wide, seed, rate, shape, number, ALPHA, **shard)
    y = y.to(x.dtype)
    return x.copy_(y) if inplace else y


def _affine(rate: Tensor) -> tuple[Any, Any]:
    """The value a' and ``a * a' + b``; tensors while compiling, where no rate may be burnt in.

    The rate is that which the mask realises, as in the factor a. At 1 the second is 0, and at 0 the step is the identity.
    """
    root: Callable[[Any], Any]
    p: Any
    if torch.compiler.is_compiling():
        p, root = torch.floor(rate * WHOLE + 0.5) / WHOLE, torch.sqrt
    else:
        p, root = threshold(float(rate)) / WHOLE, math.sqrt
    q: Any = 1 - p
    lowest = (p != 0) * SELU_LOWEST
    a = (q != 0) / root((q + (q == 0)) * (1 + p * SELU_LOWEST**2))
    return lowest, a * lowest * q
