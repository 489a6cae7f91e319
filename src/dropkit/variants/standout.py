"""Standout: units are kept with a probability that grows with their activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.variants.draw import draw_noise
from dropkit.variants.site import StreamSite


def standout(x: Tensor, alpha: float = 1.0, beta: float = 0.0, training: bool = True, *,
             activation: Callable[[Tensor], Tensor] | None = None, generator: torch.Generator | None = None,
             stream: str | None = None) -> Tensor:
    """Keep each unit with a probability that a sigmoid of its own pre-activation gives.

    ``y = f(x) * m`` in training and ``y = f(x) * k`` in evaluation, with ``k = sigmoid(alpha * x + beta)``; x is a layer's
    output before its activation f, and m the mask, whose entries are 1 with probability k and otherwise 0. For a given x,
    evaluation is the expectation of training. The binary network that decides what is kept has the layer's own weights,
    scaled: alpha and beta stand for ``pi = alpha * w + beta`` of the paper, with beta added to the sum rather than to each
    weight.

    Args:
        x: pre-activations of a floating-point type, bias included.
        alpha: how steeply the probability of keeping rises with x; any finite number. Default: 1.
        beta: shift of that probability, ``sigmoid(beta)`` at x = 0; any finite number. Default: 0.
        training: whether to drop, rather than to multiply by the probability of keeping. Default: True.
        activation: f, applied element by element; may work in place. Default: None, the identity.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x. In training the choice of the mask is not differentiated: the gradient passes through f where a unit
        is kept. In evaluation k is differentiated as any other factor. Where x is NaN the output is NaN.

    Raises:
        InputError: for an alpha or beta that is not a finite number, integer data, or an activation that changes the shape.

    Shape:
        x: any. Output: as x.

    Use:
        Between a layer and its activation, in fully connected networks, when units should be dropped the more the less active
        they are. It is not the identity in evaluation, so it cannot be removed there. Not where negative pre-activations
        matter as much as positive ones.

    Rates:
        None: the rate follows from x, about a half around x = 0 with beta = 0. alpha = 1, beta = 0 to begin with; a higher beta
        drops less.

    Evidence:
        Ba and Frey (2013) report lower errors than with ordinary dropout on MNIST and NORB, and that weights learned for the
        decision end up resembling the layer's own, which is why they are tied here.

    Example:
        >>> standout(torch.tensor([-30.0, 0.0, 30.0]), activation=torch.relu)
        tensor([ 0.,  0., 30.])
        >>> standout(torch.tensor([0.0, 30.0]), training=False)
        tensor([ 0., 30.])

    References:
        Ba, Frey: "Adaptive dropout for training deep neural networks", NIPS 2013.
    """
    _check_number(alpha, "alpha"), _check_number(beta, "beta")
    wide = compute_dtypes(check_data(x).dtype)[0]
    # Before the activation, which may work in place.
    keep = torch.sigmoid((x.detach() if training else x).to(wide) * alpha + beta)
    y = _activated(x, activation)
    if not training:
        return (y.to(wide) * keep).to(y.dtype)
    # A NaN compares as false: it is kept, and shows. The first operand gives the result its memory layout.
    return torch.where(keep <= draw_noise(x.shape, "uniform", generator, stream, device=x.device), 0.0, y)


class Standout(StreamSite):
    """Keep each unit with a probability given by its own pre-activation; `standout` as a module.

    Put it after a layer, in the place of the activation.

    Args:
        alpha: how steeply the probability of keeping rises; any finite number. Default: 1.
        beta: shift of that probability; any finite number. Default: 0.
        activation: a module or function, applied element by element. Default: None, the identity.

    Raises:
        InputError: for an alpha or beta that is not a finite number, or an activation that cannot be called.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> Standout(beta=1.0, activation=nn.ReLU())
        Standout(
          alpha=1.0, beta=1.0
          (activation): ReLU()
        )
    """

    activation: Callable[[Tensor], Tensor] | None

    def __init__(self, alpha: float = 1.0, beta: float = 0.0, activation: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.alpha, self.beta = _check_number(alpha, "alpha"), _check_number(beta, "beta")
        self.activation = _check_activation(activation)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode, multiply by the probability of keeping otherwise; see `standout`.

        Args:
            input: floating-point pre-activations of any shape.
        """
        return standout(input, self.alpha, self.beta, self.training, activation=self.activation, stream=self.stream)

    def extra_repr(self) -> str:
        """Alpha, beta, and an activation that is not a module."""
        plain = self.activation is not None and not isinstance(self.activation, nn.Module)
        return f"alpha={self.alpha}, beta={self.beta}" + (f", activation={self.activation!r}" if plain else "")


def _activated(x: Tensor, activation: Callable[[Tensor], Tensor] | None) -> Tensor:
    if activation is None:
        return x
    y = activation(x)
    if y.shape != x.shape:
        raise InputError("an activation keeps the shape of its input", got=tuple(y.shape),
                         fix=f"Pass an element-wise activation; the input's shape is {tuple(x.shape)}")
    return y


def _check_activation(activation: Any) -> Callable[[Tensor], Tensor] | None:
    if activation is not None and not callable(activation):
        raise InputError("an activation is a module or a function", got=activation, fix="Pass one such as nn.ReLU()")
    return activation  # type: ignore[no-any-return]


def _check_number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} is a finite number", got=value, fix="Pass a float; alpha=1.0 and beta=0.0 to begin with")
    return float(value)
