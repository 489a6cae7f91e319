"""Mean and variance through a rectifier: the formulas in pure torch, which any other kernel approximates, and the choice."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dropkit.kernels.native import ops as native

_transforms = torch._C._functorch.maybe_current_level
_BLOCK = 1 << 16  # elements; what lies between the steps of a block stays in the cache


def relu_moments(mean: Tensor, variance: Tensor, slope: float = 0.0) -> tuple[Tensor, Tensor]:
    """Moments of ``max(x, 0) + slope min(x, 0)`` for normal x, with the kernel for its device and type.

    Nothing is differentiated through it. The native kernel takes float32 in one pass over memory; other types, and calls that
    are traced or batched, take the reference.

    Args:
        mean: of x.
        variance: of x, of the same shape.
        slope: below 0; 0 for ReLU.

    Example:
        >>> relu_moments(torch.zeros(1), torch.ones(1))[0]
        tensor([0.3989])
    """
    if _is_native(mean, variance):
        return native.relu_moments(mean, variance, slope)
    return in_blocks(lambda m, v: reference(m, v, slope), mean, variance)


def reference(mean: Tensor, variance: Tensor, slope: float = 0.0) -> tuple[Tensor, Tensor]:
    """Moments of ``max(x, 0) + slope min(x, 0)`` for normal x, in pure torch.

    With s the deviation, b = |mu| / s, t the tail Phi(-b) and phi(b) of the standard normal distribution, the rectified part
    has the mean ``max(mu, 0) + s (phi - b t)`` and the variance ``s^2 (P + b^2 t (1 - t) - b phi (1 - 2 t) - phi^2)``, P the
    probability that x is above 0: the usual ``mu Phi(a) + s phi(a)`` and ``(mu^2 + v) Phi(a) + mu s phi(a) - mean^2`` with
    a = mu / s, without differences of large numbers.

    Args:
        mean: of x.
        variance: of x.
        slope: below 0; 0 for ReLU.

    Example:
        >>> reference(torch.zeros(1), torch.ones(1))[0]
        tensor([0.3989])
    """
    deviation = variance.sqrt()
    # Where nothing varies, b is 0 or at its bound. There the tail is below rounding, and the density's square is not yet
    # subnormal: processors calculate with those numbers fifty times slower.
    form = torch.finfo(deviation.dtype)
    b = mean.abs().div_(deviation.clamp_min(form.tiny)).clamp_max_(math.sqrt(-math.log(form.tiny) - 4))
    tail = (b * math.sqrt(0.5)).erfc_().mul_(0.5)
    density = b.square().mul_(-0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
    rest = torch.rsub(tail, 1.0, alpha=2.0)
    above = torch.addcmul(tail, mean.sign().relu_(), rest)  # comparisons and torch.where take ten times as long
    rectified = torch.addcmul(mean.relu(), deviation, torch.addcmul(density, b, tail, value=-1))
    inner = torch.rsub(tail, 1.0).mul_(tail).mul_(b).addcmul_(density, rest, value=-1)
    spread = torch.addcmul(above, b, inner).addcmul_(density, density, value=-1).clamp_min_(0.0)
    if not slope:
        return rectified, spread.mul_(variance)
    spread = slope**2 + (1 - slope) ** 2 * spread + 2 * slope * (1 - slope) * above
    return slope * mean + (1 - slope) * rectified, spread * variance


def in_blocks(rule: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], mean: Tensor, variance: Tensor,
              size: int = _BLOCK) -> tuple[Tensor, Tensor]:
    """Apply an element-wise rule of many steps block by block, so that what lies between the steps stays in the cache.

    Args:
        rule: element-wise, of means and variances.
        mean: any; what is on an accelerator is not cut.
        variance: of the same shape.
        size: of a block.

    Example:
        >>> in_blocks(lambda m, v: (m, v), torch.ones(3), torch.ones(3), 2)
        (tensor([1., 1., 1.]), tensor([1., 1., 1.]))
    """
    if mean.numel() <= size or mean.device.type != "cpu":
        return rule(mean, variance)
    pairs = zip(torch.split(mean.flatten(), size), torch.split(variance.flatten(), size), strict=True)
    means, variances = zip(*(rule(*pair) for pair in pairs), strict=True)
    return torch.cat(means).view(mean.shape), torch.cat(variances).view(mean.shape)


def _is_native(mean: Tensor, variance: Tensor) -> bool:
    plain = type(mean) is Tensor and type(variance) is Tensor and mean.is_cpu and variance.is_cpu
    dense = mean.is_contiguous() or mean.is_contiguous(memory_format=torch.channels_last)
    differentiated = torch.is_grad_enabled() and (mean.requires_grad or variance.requires_grad)
    return (native.KERNEL is not None and plain and dense and mean.dtype == variance.dtype == torch.float32
            and mean.stride() == variance.stride() and mean.shape == variance.shape and not differentiated
            and not torch.compiler.is_compiling() and _transforms() is None)
