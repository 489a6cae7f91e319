"""Sources of variation: what makes a model's outputs vary, so that each output's share of each can be followed back to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import mask_shape

Rule: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What an element-wise function makes of means and variances."""


@dataclass
class Sources:
    """Zeros that were added where something varies, and by how much it varies there.

    Args:
        zeros: which require gradients: an output's derivative in one is what the source does to it.
        variances: of the sources, of the same shapes.
    """

    zeros: list[Tensor] = field(default_factory=list)
    variances: list[Tensor] = field(default_factory=list)

    def add(self, variance: Tensor) -> Tensor:
        """Take in independent sources and return their zeros.

        Args:
            variance: of each.
        """
        self.zeros.append(torch.zeros_like(variance, requires_grad=True))
        self.variances.append(variance.detach())
        return self.zeros[-1]

    def variance_of(self, output: Tensor) -> Tensor:
        """The variance of an output that is linear in the sources: the sum of theirs times squared derivatives.

        Takes one backward pass for each element of an example.

        Args:
            output: examples first, of which none has a part in another.

        Raises:
            InputError: where a source does not belong to an example.
        """
        if output.numel() == 0:
            return torch.zeros_like(output)
        rows = output.shape[0] if output.dim() else 0
        for zeros in self.zeros:
            if zeros.dim() == 0 or zeros.shape[0] != rows:
                raise InputError("a model that is followed back has its examples in the first dimension of all that varies",
                                 got=phrase(f"noise of shape {tuple(zeros.shape)} for an output of {tuple(output.shape)}"),
                                 fix="Use Monte-Carlo passes")
        flat = output.reshape(rows, -1)
        return torch.stack([self._of(flat[:, k].sum()) for k in range(flat.shape[1])], 1).view(output.shape)

    def _of(self, total: Tensor) -> Tensor:
        effects = torch.autograd.grad(total, self.zeros, retain_graph=True, allow_unused=True)
        shares = [effect.square().mul_(variance).flatten(1).sum(1) if effect.dim() > 1 else effect.square() * variance
                  for effect, variance in zip(effects, self.variances, strict=True) if effect is not None]
        return torch.stack(shares).sum(0)


class _Thread(threading.local):
    sources: Sources | None = None


_THREAD = _Thread()


@contextmanager
def followed() -> Iterator[Sources]:
    """Record the sources of what is computed inside the ``with``, with gradients on.

    Example:
        >>> with followed() as sources:
        ...     y = 3 * vary(torch.ones(1, 1), torch.ones(1, 1))
        ...     sources.variance_of(y)
        tensor([[9.]])
    """
    before, _THREAD.sources = _THREAD.sources, Sources()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield _THREAD.sources
    finally:
        _THREAD.sources = before


def is_followed() -> bool:
    """Tell whether sources are recorded."""
    return _THREAD.sources is not None


def vary(mean: Tensor, variance: Tensor) -> Tensor:
    """A mean to which a source of each element's own is added where sources are recorded.

    Args:
        mean: any.
        variance: of what is added, of the same shape.

    Example:
        >>> vary(torch.ones(1), torch.ones(1))
        tensor([1.])
    """
    return mean if _THREAD.sources is None else mean + _THREAD.sources.add(variance)


def vary_together(mean: Tensor, center: Tensor, variance: float, dims: tuple[int, ...]) -> Tensor:
    """A mean to which ``center`` times a source is added, one source for all elements along some dimensions.

    Args:
        mean: any.
        center: of the same shape.
        variance: of a source.
        dims: along which there is one source.
    """
    assert _THREAD.sources is not None
    shape = mask_shape(center.shape, dims)
    return mean + center.detach() * _THREAD.sources.add(center.new_full(shape, variance))


def element_wise(mean: Tensor, variance: Tensor, rule: Rule, slope: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Apply a rule; where sources are recorded what varies passes by its expected slope, and the rest is a source.

    For normal x with variance v the expected slope of f is ``g = E[f(x) (x - mu)] / v``, and ``Var[f(x)] = g^2 v + r`` with r
    at least 0.

    Args:
        mean: of x.
        variance: of x.
        rule: gives the moments of f(x).
        slope: gives g.

    Example:
        >>> element_wise(torch.ones(1), torch.ones(1), lambda m, v: (2 * m, 4 * v), lambda: torch.full((1,), 2.0))
        (tensor([2.]), tensor([4.]))
    """
    if _THREAD.sources is None:
        return rule(mean, variance)
    with torch.no_grad():
        after, spread = rule(mean.detach(), variance)
        gain = slope()
    return handed_on(after, spread, ((mean, variance, gain),)), spread


def handed_on(mean: Tensor, variance: Tensor, origins: tuple[tuple[Tensor, Tensor, Tensor], ...]) -> Tensor:
    """A mean that follows those that it comes from where sources are recorded, with what they do not explain as a source.

    Args:
        mean: of what a function returns.
        variance: of the same.
        origins: mean and variance of each of its arguments, and its expected slope in it.

    Example:
        >>> handed_on(torch.ones(1), torch.ones(1), ())
        tensor([1.])
    """
    if _THREAD.sources is None:
        return mean
    rest = variance
    for center, before, gain in origins:
        rest = torch.addcmul(rest, gain * gain, before, value=-1)
        mean = mean + gain * (center - center.detach())
    return vary(mean, rest.clamp_min(0.0))


def shared_dims(kind: str, options: Callable[[str, Any], Any], rank: int) -> tuple[int, ...]:
    """Along which dimensions a site of batched data has one decision.

    Args:
        kind: a catalog name.
        options: gives the site's options by name, or the default.
        rank: the number of dimensions of its data.

    Example:
        >>> shared_dims("dropout2d", lambda name, default: default, 4)
        (2, 3)
    """
    if kind in ("dropout1d", "dropout2d", "dropout3d"):
        return tuple(dim for dim in range(1, rank) if dim != options("channel_dim", 1) % rank)
    if kind == "locked_dropout":
        return (1 if options("batch_first", False) and rank == 3 else 0,)
    if kind == "drop_path":
        return tuple(range(1 if options("per", "sample") == "sample" else 0, rank))
    if kind == "drop_node":
        return (rank - 1,)
    return tuple(options("share_dims", ()))
