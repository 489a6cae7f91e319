"""Mean and variance through the functions and tensor methods that a forward calls."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.inference.moment_pools import adaptive_count
from dropkit.inference.moment_rules import (
    Moments,
    Value,
    average_moments,
    dropout_moments,
    largest,
    layer_norm_moments,
    linear_moments,
    quadrature_moments,
    relu_moments,
    softmax_moments,
)
from dropkit.inference.moment_sources import shared_dims, vary
from dropkit.surgery.functional import Call

BERNOULLI = ("dropout", "dropout1d", "dropout2d", "dropout3d", "locked_dropout", "attention_dropout", "drop_path", "drop_node")
"""The kinds of functional calls whose moments are those of independent zeros."""


def call_moments(call: Call) -> Value:
    """Moments after a functional call of dropout.

    Args:
        call: of a kind in `BERNOULLI`.
    """
    given = call.arguments
    x = given[call.rule.parameters[0]]
    shared = shared_dims(call.rule.kind, lambda name, default: given.get(name, default), _mean(x).dim())
    branch = dropout_moments(x, float(call.p), given.get("scaling", "inverted"), shared)
    return add(branch, given["residual"]) if "residual" in given else branch


def is_random(value: Any) -> bool:
    """Tell whether there are moments anywhere in a value.

    Args:
        value: any, nested or not.

    Example:
        >>> is_random([torch.ones(1)])
        False
    """
    return any(isinstance(leaf, Moments) for leaf in _leaves(value))


def by_parts(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Moments after a function that only moves elements: it moves means and variances alike.

    Args:
        function: such a function.
        args: its positional arguments, moments among them.
        kwargs: the others.

    Example:
        >>> by_parts(torch.flatten, (Moments(torch.ones(1, 1), torch.ones(1, 1)),), {})
        Moments(mean=tensor([1.]), variance=tensor([1.]))
    """
    means = function(*_map(lambda x: x.mean, args), **_map(lambda x: x.mean, kwargs))
    variances = function(*_map(lambda x: x.variance, args, torch.zeros_like), **_map(lambda x: x.variance, kwargs))
    if isinstance(means, Tensor):
        return Moments(means, variances)
    return type(means)(Moments(*pair) for pair in zip(means, variances, strict=True))


def add(x: Any, y: Any, *, alpha: float = 1) -> Moments:
    """Moments of ``x + alpha y``: of independent terms variances add; a term that is added to itself is doubled.

    Args:
        x: moments, a tensor or a number.
        y: likewise; one of both is moments.
        alpha: the factor of y.

    Example:
        >>> x = Moments(torch.ones(1), torch.ones(1))
        >>> add(x, Moments(torch.ones(1), torch.ones(1))).variance, add(x, x).variance
        (tensor([2.]), tensor([4.]))
    """
    if x is y:
        return multiply(x, 1 + alpha)
    mean = _mean(x) + alpha * _mean(y)
    variance = _variance(x) + alpha**2 * _variance(y)
    return Moments(mean, torch.as_tensor(variance).expand_as(mean))


def multiply(x: Any, y: Any) -> Moments:
    """Moments of the product of independent factors, ``v_x v_y + v_x mu_y^2 + v_y mu_x^2``.

    Args:
        x: moments, a tensor or a number.
        y: likewise; one of both is moments.

    Raises:
        InputError: for the square of one and the same value, whose variance two moments do not tell.

    Example:
        >>> multiply(Moments(torch.ones(1), torch.ones(1)), 3.0)
        Moments(mean=tensor([3.]), variance=tensor([9.]))
    """
    if x is y:
        raise InputError("factors are independent", got=phrase("a value times itself"), fix="Use Monte-Carlo passes")
    mx, my, vx, vy = _mean(x), _mean(y), _variance(x), _variance(y)
    both = vx * vy
    mean = vary(mx * my, both) if isinstance(x, Moments) and isinstance(y, Moments) else mx * my
    return Moments(mean, both + vx * my**2 + vy * mx**2)


def _mean(x: Any) -> Any:
    return x.mean if isinstance(x, Moments) else x


def _variance(x: Any) -> Any:
    return x.variance if isinstance(x, Moments) else 0.0


def _leaves(value: Any) -> list[Any]:
    return pytree.tree_leaves(value, is_leaf=lambda x: isinstance(x, Moments))


def _map(part: Callable[[Moments], Tensor], value: Any, plain: Callable[[Tensor], Tensor] | None = None) -> Any:
    def leaf(x: Any) -> Any:
        if isinstance(x, Moments):
            return part(x)
        return plain(x) if plain is not None and isinstance(x, Tensor) and x.is_floating_point() else x

    return pytree.tree_map(leaf, value, is_leaf=lambda x: isinstance(x, Moments))


def _subtract(x: Any, y: Any, *, alpha: float = 1) -> Moments:
    return add(x, y, alpha=-alpha)


def _divide(x: Any, y: Any) -> Moments:
    if isinstance(y, Moments):
        raise InputError("a divisor is not random", got=phrase("a quotient of random values"), fix="Use Monte-Carlo passes")
    return Moments(x.mean / y, x.variance / y**2)


def _negate(x: Moments) -> Moments:
    return Moments(-x.mean, x.variance)


def _mean_over(input: Moments, dim: Any = None, keepdim: bool = False) -> Moments:
    dims = tuple(range(input.mean.dim())) if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    count = math.prod(input.mean.shape[one] for one in dims)
    return average_moments(input, lambda x: x.mean(dims, keepdim), count)


def _sum_over(input: Moments, dim: Any = None, keepdim: bool = False) -> Moments:
    dims = tuple(range(input.mean.dim())) if dim is None else dim
    return Moments(input.mean.sum(dims, keepdim), input.variance.sum(dims, keepdim))


def _same(input: Moments) -> Moments:
    return input  # a detached value varies as before: derivatives are how that is followed


def _relu(input: Moments, inplace: bool = False) -> Moments:
    return relu_moments(input)


def _leaky_relu(input: Moments, negative_slope: float = 0.01, inplace: bool = False) -> Moments:
    return relu_moments(input, negative_slope)


def _silu(input: Moments, inplace: bool = False) -> Moments:
    return quadrature_moments(input, F.silu)


def _smooth(function: Callable[..., Tensor]) -> Callable[..., Moments]:
    def rule(input: Moments, **options: Any) -> Moments:
        return quadrature_moments(input, lambda x: function(x, **options))

    return rule


def _softmax(log: bool) -> Callable[..., Moments]:
    def rule(input: Moments, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Moments:
        return softmax_moments(input, -1 if dim is None else dim, log)

    return rule


def _adaptive(pool: Callable[..., Tensor], rank: int) -> Callable[..., Moments]:
    def rule(input: Moments, output_size: Any) -> Moments:
        count = adaptive_count(input.mean.shape[-rank:], output_size)
        return average_moments(input, lambda x: pool(x, output_size), count)

    return rule


def _average_pool(pool: Callable[..., Tensor], rank: int) -> Callable[..., Moments]:
    def rule(input: Moments, kernel_size: Any, stride: Any = None) -> Moments:  # the borders are for the modules
        sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,) * rank
        return average_moments(input, lambda x: pool(x, kernel_size, stride), math.prod(sizes))

    return rule


def _max_pool(pool: type[torch.nn.Module], rank: int) -> Callable[..., Moments]:
    def rule(input: Moments, *sizes: Any, **options: Any) -> Moments:
        return largest(input, pool(*sizes, **options), rank)

    return rule


def _layer_norm(input: Moments, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Moments:
    return layer_norm_moments(input, tuple(normalized_shape), weight, bias, eps)


_ADD, _MULTIPLY = dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), add), dict.fromkeys(
    (operator.mul, operator.imul, torch.mul, "mul", "mul_"), multiply)

FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **_ADD, **_MULTIPLY,
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _subtract),
    **dict.fromkeys((operator.truediv, torch.div, "div"), _divide),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negate), **dict.fromkeys((torch.detach, "detach"), _same),
    **dict.fromkeys((torch.mean, "mean"), _mean_over), **dict.fromkeys((torch.sum, "sum"), _sum_over),
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), _relu), F.leaky_relu: _leaky_relu,
    F.gelu: _smooth(F.gelu), F.silu: _silu,
    **dict.fromkeys((torch.tanh, F.tanh, "tanh"), _smooth(torch.tanh)),
    **dict.fromkeys((torch.sigmoid, F.sigmoid, "sigmoid"), _smooth(torch.sigmoid)), F.softplus: _smooth(F.softplus),
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), _softmax(False)),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, "log_softmax"), _softmax(True)),
    F.linear: linear_moments, F.layer_norm: _layer_norm,
    F.adaptive_avg_pool1d: _adaptive(F.adaptive_avg_pool1d, 1), F.adaptive_avg_pool2d: _adaptive(F.adaptive_avg_pool2d, 2),
    F.max_pool1d: _max_pool(torch.nn.MaxPool1d, 1),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool(torch.nn.MaxPool2d, 2)),
    F.avg_pool1d: _average_pool(F.avg_pool1d, 1), F.avg_pool2d: _average_pool(F.avg_pool2d, 2),
}
"""What functions, and methods by name, do to moments."""

MOVING: frozenset[Any] = frozenset((
    torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze, torch.cat, torch.stack,
    torch.chunk, torch.split, torch.unflatten, operator.getitem, "flatten", "view", "reshape", "permute", "transpose",
    "squeeze", "unsqueeze", "contiguous", "expand", "chunk", "split", "unflatten", "clone", "unbind",
    "float", "double"))
"""Functions, and methods by name, that only move elements."""

ASKING: frozenset[str] = frozenset(("size", "dim", "numel", "ndimension", "is_floating_point"))
"""Methods that ask about a tensor's form."""
