"""Mean and covariance through fully connected networks: what hangs on the same masks varies together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.core.errors import InputError, phrase
from dropkit.inference.moment_rules import Moments, Value, dropout_moments, relu_moments
from dropkit.surgery.modules import kind_of
from dropkit.variants.dropout import Dropout


def joint_dropout(x: Value, p: float, scaling: str = "inverted") -> Value:
    """Moments after a dropout of single elements, whose noise is independent: covariances between elements keep.

    Args:
        x: features in the last dimension.
        p: probability of dropping.
        scaling: as in `dropkit.nn.Dropout`.

    Example:
        >>> joint_dropout(torch.ones(2), 0.5).covariance
        tensor([[1., 0.],
                [0., 1.]])
    """
    found = dropout_moments(x, p, scaling)
    if not isinstance(found, Moments):
        return found
    factor = 1.0 if scaling == "inverted" else 1 - p
    before = x.covariance if isinstance(x, Moments) else None
    return _with_variance(found.mean, found.variance, None if before is None else before * (factor**2 if p < 1 else 0.0))


def joint_linear(x: Moments, weight: Tensor, bias: Tensor | None = None) -> Moments:
    """Moments of ``W x + b``, exactly: the covariance becomes ``W C W^T``.

    Args:
        x: with its covariance C.
        weight: W.
        bias: b.

    Example:
        >>> joint_linear(joint_dropout(torch.ones(2), 0.5), torch.tensor([[1.0, 1.0]])).variance
        tensor([2.])
    """
    assert x.covariance is not None
    covariance = torch.matmul(torch.matmul(weight, x.covariance), weight.T)
    return Moments(F.linear(x.mean, weight, bias), covariance.diagonal(dim1=-2, dim2=-1), covariance)


def joint_relu(x: Moments, slope: float = 0.0) -> Moments:
    """Moments of ReLU, or leaky ReLU, of jointly normal x.

    Variances are those of `relu_moments`. Covariances are expanded in the correlation r of two elements, to its fourth power:
    with a = mu / s, Phi and phi of the standard normal distribution, and for ReLU,
    ``s s' (r Phi Phi' + r^2 / 2 phi phi' + r^3 / 6 a phi a' phi' + r^4 / 24 (a^2 - 1) phi (a'^2 - 1) phi')``.

    Args:
        x: with its covariance.
        slope: below 0; 0 for ReLU.

    Example:
        >>> x = Moments(torch.zeros(2), torch.ones(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        >>> round(float(joint_relu(x).covariance[0, 1]), 4)  # 0.14535 is exact
        0.1453
    """
    assert x.covariance is not None
    deviation = x.std.clamp_min(torch.finfo(x.mean.dtype).tiny ** 0.25)  # squares of products stay above 0
    a = (x.mean / deviation).clamp(-9.0, 9.0)
    density = (1 - slope) * torch.exp(-0.5 * a.square()) / math.sqrt(2 * math.pi)
    first = slope + (1 - slope) * torch.special.ndtr(a)
    r = (x.covariance / _outer(deviation)).clamp(-1.0, 1.0)
    terms = _outer(first) * r
    for order, values in ((2, density), (3, a * density), (4, (a.square() - 1) * density)):
        terms = terms + _outer(values) * r**order / math.factorial(order)
    found = relu_moments(x, slope)
    return _with_variance(found.mean, found.variance, terms * _outer(deviation))


def run_joint(module: Any, path: str, x: Value) -> Value:
    """Call a module of a fully connected network on a tensor or on moments with covariances.

    Args:
        module: ``nn.Sequential`` of the modules that have a rule; before the first dropout torch's layers of any kind.
        path: its path, for errors.
        x: what it gets.

    Raises:
        InputError: for a module without a rule, naming it and its place.
    """
    if type(module) is nn.Sequential:
        for name, child in module.named_children():
            x = run_joint(child, f"{path}.{name}" if path else name, x)
        return x
    rule = RULES.get(type(module))
    own = type(module).__module__.startswith("torch.nn.")
    hooked = module._forward_hooks or module._forward_pre_hooks
    if rule is not None and not hooked and (isinstance(x, Moments) or kind_of(module) is not None):
        return rule(module, x)
    if isinstance(x, Moments) or not own or kind_of(module) is not None or hooked or any(module.children()):
        raise InputError("covariances are followed through nn.Sequential of linear layers, ReLU, leaky ReLU and Dropout",
                         got=phrase(f"a {type(module).__name__} at {path!r}"),
                         fix="Leave covariance=False, or use Monte-Carlo passes")
    found: Tensor = module(x)
    return found


def _dropped(module: Any, x: Value) -> Value:
    if getattr(module, "share_dims", ()):
        raise InputError("covariances are followed through dropout of single elements", got=phrase(repr(module)),
                         fix="Leave covariance=False, or use Monte-Carlo passes")
    return joint_dropout(x, float(module.p), getattr(module, "scaling", "inverted"))


def _linear(module: Any, x: Any) -> Moments:
    return joint_linear(x, module.weight, module.bias)


def _relu(module: Any, x: Any) -> Moments:
    return joint_relu(x, getattr(module, "negative_slope", 0.0))


def _same(module: Any, x: Value) -> Value:
    return x


def _with_variance(mean: Tensor, variance: Tensor, covariance: Tensor | None) -> Moments:
    diagonal = torch.diag_embed(variance)
    if covariance is None:
        return Moments(mean, variance, diagonal)
    return Moments(mean, variance, covariance - torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1)) + diagonal)


def _outer(x: Tensor) -> Tensor:
    return x[..., :, None] * x[..., None, :]


RULES: dict[type[nn.Module], Callable[[Any, Any], Value]] = {
    **dict.fromkeys((nn.Dropout, Dropout), _dropped), nn.Linear: _linear, **dict.fromkeys((nn.ReLU, nn.LeakyReLU), _relu),
    nn.Identity: _same}
"""What modules do to moments with covariances."""
