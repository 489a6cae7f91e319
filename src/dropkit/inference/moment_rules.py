"""Mean and variance through single layers: one pure function a kind of layer, and the table of the modules that use them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.core.errors import InputError, phrase
from dropkit.inference.moment_pools import adaptive_count, max_moments, pool_count
from dropkit.inference.moment_sources import element_wise, is_followed, shared_dims, vary, vary_together
from dropkit.kernels import moments
from dropkit.surgery.modules import kind_of
from dropkit.variants.attention import AttentionDropout
from dropkit.variants.channel import Dropout1d, Dropout2d, Dropout3d
from dropkit.variants.drop_connect import DropConnect, drop_connect_moments
from dropkit.variants.drop_path import DropPath
from dropkit.variants.dropout import Dropout
from dropkit.variants.graph import DropNode
from dropkit.variants.layers import apply_layer
from dropkit.variants.locked import LockedDropout
from dropkit.variants.noisy import GaussianDropout, UniformDropout


@dataclass(frozen=True)
class Moments:
    """Mean and variance of each element of a random tensor.

    Args:
        mean: expectation over masks.
        variance: of the same shape, at least 0.
        covariance: of the elements of the last dimension, which it adds once more; None where it was not asked for.
        masked: whether noise was the last thing that was done to it, so that it is far from normal.
    """

    mean: Tensor
    variance: Tensor
    covariance: Tensor | None = field(default=None, repr=False)
    masked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        """Only means are differentiated."""
        if self.variance.requires_grad:
            object.__setattr__(self, "variance", self.variance.detach())

    @property
    def std(self) -> Tensor:
        """Standard deviation of each element."""
        return self.variance.sqrt()


Value: TypeAlias = Moments | Tensor
"""What flows through a model: moments from the first site on, a plain tensor before it."""


def times_noise(x: Value, mean: float, variance: float, shared: tuple[int, ...] = ()) -> Value:
    """Moments of ``x n``, for factors n of known moments that are independent of x.

    ``E[x n] = f mu`` and ``Var[x n] = v (w + f^2) + mu^2 w`` with mu and v the moments of x, and f and w those of a factor;
    inverted dropout has f = 1 and w = p / q, so that the variance is ``v / q + mu^2 p / q``.

    Args:
        x: any; a plain tensor has variance 0.
        mean: of a factor.
        variance: of a factor.
        shared: dimensions along which there is one factor; counts where sources are recorded.

    Example:
        >>> times_noise(torch.tensor([2.0]), 1.0, 0.25)
        Moments(mean=tensor([2.]), variance=tensor([1.]))
    """
    if variance == 0 and mean == 1:
        return x
    center, before = (x.mean, x.variance) if isinstance(x, Moments) else (x, None)
    after, fixed = center if mean == 1 else center * mean, center.detach()
    if is_followed():
        after = _with_sources(after, fixed, before, variance, shared)
    spread = fixed.square().mul_(variance) if before is None else (before * (variance + mean**2)).addcmul_(
        fixed, fixed, value=variance)
    return Moments(after, spread, masked=True)


def dropout_moments(x: Value, p: float, scaling: str = "inverted", shared: tuple[int, ...] = ()) -> Value:
    """Moments after dropout. Elements that share a decision have the same moments as others.

    Args:
        x: any.
        p: probability of dropping.
        scaling: as in `dropkit.nn.Dropout`.
        shared: as in `times_noise`.

    Example:
        >>> dropout_moments(torch.tensor([1.0]), 0.5)
        Moments(mean=tensor([1.]), variance=tensor([1.]))
    """
    q = 1.0 - p
    if scaling == "classic":
        return times_noise(x, q, p * q, shared)
    return times_noise(x, 1.0, p / q, shared) if q > 0 else times_noise(x, 0.0, 0.0)


def relu_moments(x: Moments, slope: float = 0.0) -> Moments:
    """Moments of ``max(x, 0) + slope min(x, 0)`` for normal x, by the formulas of `dropkit.kernels.moments`.

    Args:
        x: any.
        slope: below 0; 0 for ReLU.

    Example:
        >>> relu_moments(Moments(torch.tensor([0.0]), torch.tensor([1.0]))).mean
        tensor([0.3989])
    """
    def gain() -> Tensor:
        deviation = x.variance.sqrt()
        above: Tensor = torch.special.ndtr(x.mean / deviation.clamp_min(torch.finfo(deviation.dtype).tiny))
        return slope + (1 - slope) * above

    return Moments(*element_wise(x.mean, x.variance, lambda m, v: moments.relu_moments(m, v, slope), gain))


def quadrature_moments(x: Moments, function: Callable[[Tensor], Tensor], nodes: int = 20) -> Moments:
    """Moments of a smooth function of normal x, by Gauss-Hermite quadrature.

    Args:
        x: any.
        function: element-wise.
        nodes: at how many points it is evaluated.

    Example:
        >>> quadrature_moments(Moments(torch.tensor([1.0]), torch.tensor([4.0])), lambda x: 3 * x).variance
        tensor([36.])
    """
    def block(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        deviation, center = variance.sqrt(), function(mean)
        first, second = torch.zeros_like(center), torch.zeros_like(center)
        for node, weight in _hermite(nodes):
            distance = function(mean + node * deviation) - center  # from the value at the mean: no large numbers cancel
            first.add_(distance, alpha=weight)
            second.addcmul_(distance, distance, value=weight)
        return center + first, (second - first.square()).clamp_min_(0.0)

    def gain() -> Tensor:
        deviation = x.variance.sqrt().clamp_min_(0.01)  # smaller, a difference would be one of rounding errors
        steps = (function(x.mean + node * deviation).mul_(weight * node) for node, weight in _hermite(nodes))
        return functools.reduce(Tensor.add_, steps).div_(deviation)

    return Moments(*element_wise(x.mean, x.variance, lambda m, v: moments.in_blocks(block, m, v), gain))


def softmax_moments(x: Moments, dim: int = -1, log: bool = False) -> Moments:
    """Moments of a softmax, or of its logarithm, for independent normal x, to the usual approximations.

    The mean of the softmax is ``softmax(mu / sqrt(1 + pi v / 8))`` (the mean-field rule) and its variance that of the
    softmax made linear there, ``sum_j (s_i (d_ij - s_j))^2 v_j``. The logarithm's mean is that of its second-order
    expansion, ``log softmax(mu)_i - 1/2 sum_j s_j (1 - s_j) v_j``, and its variance ``sum_j (d_ij - s_j)^2 v_j``.

    Args:
        x: any.
        dim: the dimension of the classes.
        log: whether it is the logarithm.

    Example:
        >>> softmax_moments(Moments(torch.zeros(2), torch.ones(2))).mean
        tensor([0.5000, 0.5000])
    """
    v = x.variance
    if log:
        s = torch.softmax(x.mean, dim)
        mean = torch.log_softmax(x.mean, dim) - 0.5 * (s * (1 - s) * v).sum(dim, keepdim=True)
        return Moments(mean, (1 - 2 * s) * v + (s.square() * v).sum(dim, keepdim=True))
    s = torch.softmax(x.mean / (1 + math.pi / 8 * v).sqrt(), dim)
    return Moments(s, s.square() * ((1 - 2 * s) * v + (s.square() * v).sum(dim, keepdim=True)))


def linear_moments(x: Moments, weight: Tensor, bias: Tensor | None = None) -> Moments:
    """Moments of ``W x + b`` for x with independent elements: ``W mu + b`` and ``(W o W) v``, o element by element.

    Args:
        x: any.
        weight: W.
        bias: b.

    Example:
        >>> linear_moments(Moments(torch.ones(2), torch.ones(2)), torch.tensor([[1.0, 2.0]]))
        Moments(mean=tensor([3.]), variance=tensor([5.]))
    """
    return Moments(F.linear(x.mean, weight, bias), F.linear(x.variance, weight.square()))


def layer_norm_moments(x: Moments, shape: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float) -> Moments:
    """Moments of a layer normalisation, with the variance that it divides by at its expectation.

    Of n independent elements the centred ones vary by ``v (1 - 2 / n) + mean(v) / n``, and the expected squared deviation is
    ``mean((mu - mean(mu))^2) + (1 - 1 / n) mean(v)``: exact but for the spread of the divisor, which is of order 1 / n.

    Args:
        x: any.
        shape: of the dimensions that are normalised.
        weight: the scale.
        bias: the shift.
        eps: what is added to the squared deviation.

    Example:
        >>> layer_norm_moments(Moments(torch.tensor([1.0, -1.0]), torch.zeros(2)), (2,), None, None, 0.0).mean
        tensor([ 1., -1.])
    """
    dims, n = tuple(range(-len(shape), 0)), math.prod(shape)
    centred = x.mean - x.mean.mean(dims, keepdim=True)
    average = x.variance.mean(dims, keepdim=True)
    squared = centred.square().mean(dims, keepdim=True) + (1 - 1 / n) * average + eps
    mean, variance = centred / squared.sqrt(), (x.variance * (1 - 2 / n) + average / n) / squared
    if weight is not None:
        mean, variance = mean * weight, variance * weight.square()
    return Moments(mean if bias is None else mean + bias, variance)


def largest(x: Moments, pool: Any, rank: int) -> Moments:
    """Moments behind a max pooling; see `dropkit.inference.moment_pools.max_moments`.

    Args:
        x: any.
        pool: a module of the kind of ``nn.MaxPool2d``.
        rank: of its windows.

    Raises:
        InputError: right behind a site, where the largest of elements that are dropped is far from that of normal values.

    Example:
        >>> largest(Moments(torch.ones(1, 2), torch.zeros(1, 2)), nn.MaxPool1d(2), 1).mean
        tensor([[1.]])
    """
    if x.masked:
        raise InputError("what a max pooling gets is nearly normal", got=phrase("a dropout right before it"),
                         fix="Put the dropout behind the pooling, or use Monte-Carlo passes")
    return Moments(*max_moments(x.mean, x.variance, pool, rank))


def average_moments(x: Moments, pool: Callable[[Tensor], Tensor], count: float) -> Moments:
    """Moments of averages over windows of independent elements.

    Args:
        x: any.
        pool: averages.
        count: by how much it divides the sum over a window.

    Example:
        >>> average_moments(Moments(torch.ones(4), torch.ones(4)), torch.mean, 4).variance
        tensor(0.2500)
    """
    return Moments(pool(x.mean), pool(x.variance) / count)


def _with_sources(mean: Tensor, center: Tensor, before: Tensor | None, variance: float, shared: tuple[int, ...]) -> Tensor:
    """A mean behind noise, with the noise's sources: of the values' means together, of what varies in them each its own."""
    if shared:
        mean = vary_together(mean, center, variance, shared)
        return mean if before is None else vary(mean, before * variance)
    return vary(mean, (center.square() if before is None else center.square().add_(before)).mul_(variance))


@functools.cache
def _hermite(nodes: int) -> tuple[tuple[float, float], ...]:
    """Points and weights for the standard normal distribution."""
    points, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return tuple((float(point), float(weight)) for point, weight in zip(points, weights / weights.sum(), strict=True))


# ------------------------------------------------------------------------------------------------ rules of modules


def _dropped(module: Any, x: Value) -> Value:
    return dropout_moments(x, float(module.p), getattr(module, "scaling", "inverted"), _shared(module, x))


def _gaussian(module: Any, x: Value) -> Value:
    return times_noise(x, 1.0, module.p / (1 - module.p), _shared(module, x))


def _uniform(module: Any, x: Value) -> Value:
    return times_noise(x, 1.0, module.b**2 / 3, _shared(module, x))


def _shared(module: Any, x: Value) -> tuple[int, ...]:
    rank = (x.mean if isinstance(x, Moments) else x).dim()
    return shared_dims(kind_of(module) or "", lambda name, default: getattr(module, name, default), rank)


def _drop_connected(module: Any, x: Value) -> Value:
    if not isinstance(x, Moments):
        if module.p == 0:
            return apply_layer(x, module.weight, module.bias, module.geometry)
        mean, variance = drop_connect_moments(x, module.weight, module.bias, module.p, scaling=module.scaling,
                                              geometry=module.geometry)
        return Moments(vary(mean, variance), variance)
    q = 1 - module.p  # of a factor of the weights: mean f and variance w
    f, w = (q, q * module.p) if module.scaling == "classic" else (1.0, module.p / q) if q else (0.0, 0.0)
    squares, center = module.weight.square(), x.mean.detach()
    own = apply_layer((center.square() + x.variance) * w, squares, None, module.geometry)
    kept = apply_layer(x.variance * f**2, squares, None, module.geometry)
    return Moments(vary(apply_layer(x.mean * f, module.weight, module.bias, module.geometry), own), own + kept)


def _linear(module: Any, x: Moments) -> Moments:
    return linear_moments(x, module.weight, module.bias)


def _convolution(module: Any, x: Moments) -> Moments:
    return Moments(module._conv_forward(x.mean, module.weight, module.bias),
                   module._conv_forward(x.variance, module.weight.square(), None))


def _batch_norm(module: Any, x: Moments) -> Moments:
    if module.running_var is None:
        raise InputError("a batch normalisation has running statistics", got=phrase(repr(module)),
                         fix="Train it with track_running_stats=True")
    scale = (module.running_var + module.eps).reciprocal()
    scale = scale if module.weight is None else scale * module.weight.square()
    mean = F.batch_norm(x.mean, module.running_mean, module.running_var, module.weight, module.bias, False, 0.0, module.eps)
    return Moments(mean, x.variance * scale.view(-1, *[1] * (x.mean.dim() - 2)))


def _layer_norm(module: Any, x: Moments) -> Moments:
    return layer_norm_moments(x, tuple(module.normalized_shape), module.weight, getattr(module, "bias", None), module.eps)


def _average(module: Any, x: Moments) -> Moments:
    return average_moments(x, module, pool_count(module))


def _adaptive(module: Any, x: Moments) -> Moments:
    rank = int(type(module).__name__[-2])
    return average_moments(x, module, adaptive_count(x.mean.shape[-rank:], module.output_size))


def _largest(module: Any, x: Moments) -> Moments:
    return largest(x, module, int(type(module).__name__[-2]))


def _relu(module: Any, x: Moments) -> Moments:
    return relu_moments(x, getattr(module, "negative_slope", 0.0))


def _smooth(module: nn.Module, x: Moments) -> Moments:
    function = functools.partial(F.elu, alpha=module.alpha) if isinstance(module, nn.ELU) else (
        F.silu if isinstance(module, nn.SiLU) else module)  # not in place
    return quadrature_moments(x, function)


def _softmax(module: Any, x: Moments) -> Moments:
    return softmax_moments(x, -1 if module.dim is None else module.dim, isinstance(module, nn.LogSoftmax))


def _reshaped(module: nn.Module, x: Moments) -> Moments:
    return Moments(module(x.mean), module(x.variance))


NOISE: dict[type[nn.Module], Callable[[Any, Value], Value]] = {
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, Dropout, Dropout1d, Dropout2d, Dropout3d,
                     LockedDropout, AttentionDropout, DropPath, DropNode), _dropped),
    GaussianDropout: _gaussian, UniformDropout: _uniform, DropConnect: _drop_connected,
}
"""What the sites do, to plain tensors as well."""

RULES: dict[type[nn.Module], Callable[[Any, Moments], Moments]] = {
    nn.Linear: _linear,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    nn.LayerNorm: _layer_norm,
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _average),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _adaptive),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _largest),
    **dict.fromkeys((nn.ReLU, nn.LeakyReLU), _relu),
    **dict.fromkeys((nn.GELU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.ELU), _smooth),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), _softmax),
    **dict.fromkeys((nn.Flatten, nn.Unflatten, nn.Identity), _reshaped),
}
"""What other modules do to moments."""
