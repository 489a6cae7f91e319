"""Mean and variance through pooling."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit.core.errors import InputError, phrase
from dropkit.inference.moment_sources import handed_on
from dropkit.kernels import moments

Pair = tuple[Tensor, Tensor]
"""Means and variances."""


def larger(one: Pair, other: Pair) -> Pair:
    """Moments of the larger of two independent normal values, by Clark's formulas.

    With d and t^2 the mean and the variance of x - y, the larger is ``y + max(x - y, 0)``, whose mean is that of y plus the
    rectified mean, and whose variance is ``Var[max(x - y, 0)] + (1 - 2 Phi(d / t)) Var[y]``.

    Args:
        one: moments of x.
        other: of y.

    Example:
        >>> larger((torch.zeros(1), torch.ones(1)), (torch.zeros(1), torch.ones(1)))  # 1 / sqrt(pi) and 1 - 1 / pi
        (tensor([0.5642]), tensor([0.6817]))

    References:
        Clark: "The greatest of a finite set of random variables", Operations Research 1961.
    """
    (m, v), (n, w) = ((mean.detach(), variance) for mean, variance in (one, other))
    gap, spread = m - n, v + w
    above: Tensor = torch.special.ndtr(gap / spread.sqrt().clamp_min(torch.finfo(gap.dtype).tiny))
    rise, variance = moments.relu_moments(gap, spread)
    variance = torch.addcmul(variance, w, 1 - 2 * above).clamp_min_(0.0)
    return handed_on(n + rise, variance, ((one[0], v, above), (other[0], w, 1 - above))), variance


def max_moments(mean: Tensor, variance: Tensor, pool: Any, rank: int) -> Pair:
    """Moments of the largest of a window, as if its elements were independent and normal, and so the larger of each two.

    Args:
        mean: of the input.
        variance: of the input.
        pool: a module of the kind of ``nn.MaxPool2d``.
        rank: of its windows.

    Raises:
        InputError: for one that returns indices or rounds sizes up.

    Example:
        >>> x = torch.tensor([[[0.0, 9.0, 1.0, 2.0]]])
        >>> max_moments(x, torch.zeros_like(x), torch.nn.MaxPool1d(2), 1)[0]
        tensor([[[9., 2.]]])
    """
    if pool.ceil_mode or pool.return_indices:
        raise InputError("a max pooling returns values of whole windows", got=phrase(repr(pool)),
                         fix="Use ceil_mode=False and return_indices=False, or Monte-Carlo passes")
    entries = list(_windows(mean, variance, pool, rank))
    while len(entries) > 1:  # in rounds, as in a cup
        entries = [larger(*entries[at:at + 2]) if at + 1 < len(entries) else entries[at] for at in range(0, len(entries), 2)]
    return entries[0]


def pool_count(module: Any) -> float:
    """By how much an ``nn.AvgPool`` module divides, where that is the same everywhere.

    Args:
        module: an ``nn.AvgPool1d``, ``nn.AvgPool2d`` or ``nn.AvgPool3d``.

    Raises:
        InputError: where windows at the border are divided by another number.

    Example:
        >>> pool_count(torch.nn.AvgPool2d(3))
        9.0
    """
    size = module.kernel_size
    rank = int(type(module).__name__[-2])
    sizes = size if isinstance(size, tuple) else (size,) * rank
    padded = any(module.padding) if isinstance(module.padding, tuple) else bool(module.padding)
    divisor = getattr(module, "divisor_override", None)
    if divisor is None and (module.ceil_mode or (padded and not module.count_include_pad)):
        raise InputError("an average pooling divides by one number everywhere", got=phrase(repr(module)),
                         fix="Use ceil_mode=False and count_include_pad=True, or Monte-Carlo passes")
    return float(divisor or math.prod(sizes))


def adaptive_count(shape: Any, output: Any) -> float:
    """How many elements each window of an adaptive average pooling holds, where all hold equally many.

    Args:
        shape: the sizes of the dimensions that are pooled.
        output: their sizes afterwards; None for one that stays.

    Raises:
        InputError: where a size is no multiple of its output's.

    Example:
        >>> adaptive_count((6, 8), (2, None))
        3.0
    """
    sizes, wanted = tuple(shape), output if isinstance(output, tuple) else (output,) * len(tuple(shape))
    out = tuple(size if want is None else want for size, want in zip(sizes, wanted, strict=True))
    if any(size % want for size, want in zip(sizes, out, strict=True)):
        raise InputError("the windows of an adaptive pooling hold equally many elements", got=phrase(f"{sizes} to {out}"),
                         fix="Pool to sizes that divide the input's, or use Monte-Carlo passes")
    return float(math.prod(sizes) / math.prod(out))


def _windows(mean: Tensor, variance: Tensor, pool: Any, rank: int) -> Iterator[Pair]:
    """The elements of all windows, place by place."""
    size, stride, padding, dilation = (_each(value, rank) for value in (
        pool.kernel_size, pool.stride or pool.kernel_size, pool.padding, pool.dilation))
    if any(padding):
        sides = [side for pad in reversed(padding) for side in (pad, pad)]
        low = float((mean.detach() - 10 * variance.sqrt()).min()) if mean.numel() else 0.0  # never the largest
        mean, variance = F.pad(mean, sides, value=low), F.pad(variance, sides)
    count = [(full - step * (wide - 1) - 1) // by + 1
             for full, wide, by, step in zip(mean.shape[-rank:], size, stride, dilation, strict=True)]
    for place in itertools.product(*map(range, size)):
        cut: Any = (..., *(slice(at * step, at * step + by * (many - 1) + 1, by)
                      for at, step, by, many in zip(place, dilation, stride, count, strict=True)))
        yield mean[cut], variance[cut]


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * rank
