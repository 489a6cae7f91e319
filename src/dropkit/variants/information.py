"""Information dropout: multiplicative noise whose strength each unit learns from the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.variants.draw import draw_noise
from dropkit.variants.layers import AdoptedLayer, apply_layer

_FLOOR = 1e-3  # the least strength as a part of the largest, so that the divergence stays finite
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "softplus": nn.functional.softplus}


def information_dropout(x: Tensor, alpha: float | Tensor, training: bool = True, *, generator: torch.Generator | None = None,
                        stream: str | None = None) -> Tensor:
    """Multiply by log-normal noise of given strengths in training.

    ``y = x exp(alpha e)`` with e standard normal, fresh for each element: x is the activation and alpha the strength of the
    noise, which a network computes from its input. The factor has median 1 and mean ``exp(alpha^2 / 2)``.

    Args:
        x: activations of a floating-point type.
        alpha: strengths, at least 0, of any shape that broadcasts to x's. A tensor's values are not looked at.
        training: whether to act. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself in evaluation.

    Raises:
        InputError: for a number below 0, and in training for integer data or strengths that do not broadcast to x's shape.

    Shape:
        x: any. alpha: broadcasts to x's. Output: as x.

    Use:
        When a representation should keep what the task needs and forget the rest: with the divergence in the loss
        (``dk.regularization_loss``, times a weight beta) it is the information bottleneck with learned noise. A unit
        learns much noise where it does not matter and little where it does. Without the divergence the noise learns to
        vanish.

    Rates:
        Learned, up to the paper's largest alpha of 0.7. The divergence is a sum over units, so beta falls as layers get
        wider: search it over powers of ten below 1.

    Evidence:
        The paper reports generalisation comparable to that of binary dropout or better, especially for smaller networks, and
        shows that the noise adapts to each example.

    Example:
        >>> information_dropout(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])

    References:
        Achille, Soatto: "Information dropout: learning optimal representations through noisy computation", IEEE TPAMI 2018.
    """
    if not isinstance(alpha, Tensor):
        alpha = torch.tensor(_check_strength(alpha, "alpha", least=0.0), dtype=torch.float64)
    if not training:
        return x
    _check_broadcast(alpha, check_data(x))
    wide, factor = compute_dtypes(x.dtype)
    noise = draw_noise(x.shape, "normal", generator, stream, device=x.device).to(factor)
    return (x.to(wide) * (alpha.to(x.device, factor) * noise).exp()).to(x.dtype)


def log_uniform_kl(alpha: Tensor, max_alpha: float = 0.7) -> Tensor:
    """The divergence of a noisy ReLU from the log-uniform prior, for each unit, in nats.

    ``KL = -log(alpha / a)``, up to a constant that makes it 0 at the largest strength a; alpha is the strength of the noise.

    Args:
        alpha: strengths, above 0.
        max_alpha: the largest strength a, above 0. Default: 0.7.

    Returns:
        A tensor of alpha's shape, in single precision at least.

    Raises:
        InputError: for a largest strength that is not above 0.

    Shape:
        alpha: any. Output: as alpha.

    Example:
        >>> log_uniform_kl(torch.tensor([0.7, 0.07]))
        tensor([-0.0000, 2.3026])

    References:
        Achille, Soatto: "Information dropout: learning optimal representations through noisy computation", IEEE TPAMI 2018.
    """
    wide, _ = compute_dtypes(alpha.dtype)
    return -(alpha.to(wide) / _check_strength(max_alpha, "max_alpha")).log()


def log_normal_kl(x: Tensor, alpha: Tensor, mean: float | Tensor = 0.0, log_sigma: float | Tensor = 0.0) -> Tensor:
    """The divergence of a noisy positive activation from a log-normal prior, for each unit, in nats.

    ``KL = (alpha^2 + (log x - m)^2) / (2 s^2) - log(alpha / s) - 1/2``: x is the activation before the noise and alpha the
    noise's strength; m and s are mean and standard deviation of the prior's logarithm.

    Args:
        x: activations, above 0 but for underflow.
        alpha: strengths, above 0.
        mean: m. Default: 0.
        log_sigma: log s. Default: 0.

    Returns:
        A tensor of the shape to which all broadcast, in single precision at least.

    Shape:
        x, alpha, mean, log_sigma: any that broadcast. Output: what they broadcast to.

    Example:
        >>> log_normal_kl(torch.ones(1), torch.ones(1))
        tensor([0.])

    References:
        Achille, Soatto: "Information dropout: learning optimal representations through noisy computation", IEEE TPAMI 2018.
    """
    wide, _ = compute_dtypes(x.dtype)
    m, log_s = (value.to(wide) if isinstance(value, Tensor) else x.new_tensor(value, dtype=wide) for value in (mean, log_sigma))
    wide_alpha = alpha.to(wide)
    gap = x.to(wide).clamp_min(torch.finfo(wide).tiny).log() - m
    return (wide_alpha.square() + gap.square()) * (0.5 * (-2 * log_s).exp()) - wide_alpha.log() + log_s - 0.5


class InformationDropout(AdoptedLayer):
    """A layer, its activation and learned log-normal noise; `information_dropout` as a module.

    ``y = f(W x + b) exp(alpha(x) e)`` with ``alpha(x) = a (0.001 + 0.999 sigmoid(V x + c))``: f is the activation, which
    must not follow again, a the largest strength, and V and c a second weight and bias of the layer's shape, which begin at
    0. In evaluation ``y = f(W x + b)``. The term for the loss is the divergence from the prior that fits the activation
    (`log_uniform_kl` for ReLU, also where the unit is 0; `log_normal_kl` for softplus, its m and s learned), summed over units
    and positions and averaged over the first dimension, the batch, of the last forward pass in training. Being a mean, it is
    not divided by ``dk.regularization_loss``. It belongs to that pass: it is not copied, not found after
    ``nn.DataParallel``, and without a gradient after a reentrant checkpoint.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        max_alpha: the largest strength a, above 0. Default: 0.7.
        activation: ``"relu"`` or ``"softplus"``.

    Raises:
        InputError: for a layer that cannot be adopted, a strength that is not above 0 or an unknown activation.

    Shape:
        As the layer's.

    Example:
        >>> layer = InformationDropout(nn.Linear(3, 4))
        >>> layer(torch.ones(2, 3)).shape, float(layer.regularization().detach()) > 0
        (torch.Size([2, 4]), True)
    """

    per_example: ClassVar[bool] = True
    _divergence: Tensor | None = None

    def __init__(self, layer: nn.Module, *, max_alpha: float = 0.7, activation: str = "relu") -> None:
        super().__init__(layer)
        if activation not in _ACTIVATIONS:
            raise InputError('activation is "relu" or "softplus"', got=activation, fix="Each has a prior of its own")
        self.max_alpha, self.activation = _check_strength(max_alpha, "max_alpha"), activation
        self.alpha_weight = nn.Parameter(torch.zeros_like(self.weight))
        self.alpha_bias = nn.Parameter(self.weight.detach().new_zeros(self.weight.shape[0]))
        if activation == "softplus":
            self.prior_mean = nn.Parameter(self.weight.detach().new_zeros(()))
            self.prior_log_sigma = nn.Parameter(self.weight.detach().new_zeros(()))

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer and its activation, with noise in training mode; see `information_dropout`.

        Args:
            input: what the layer takes.
        """
        y = _ACTIVATIONS[self.activation](apply_layer(check_data(input), self.weight, self.bias, self.geometry))
        if not self.training:
            return y
        alpha = self.alpha(input)
        self._divergence = self._mean_divergence(y, alpha)
        return information_dropout(y, alpha, stream=self.stream)

    def alpha(self, input: Tensor) -> Tensor:
        """The strength of each unit's noise for an input; of the layer's output shape.

        Args:
            input: what the layer takes.
        """
        share = torch.sigmoid(apply_layer(input, self.alpha_weight, self.alpha_bias, self.geometry))
        return self.max_alpha * (_FLOOR + (1 - _FLOOR) * share)

    def regularization(self) -> Tensor:
        """The divergence of the last forward pass in training, for ``dk.regularization_loss``.

        Raises:
            InputError: when there was no such pass since the module was made or copied.
        """
        if self._divergence is None:
            raise InputError("information dropout has a divergence after a forward pass in training",
                             got=phrase("no such pass"), fix="Call the model in training mode first")
        return self._divergence

    def _mean_divergence(self, y: Tensor, alpha: Tensor) -> Tensor:
        if self.activation == "relu":
            each = log_uniform_kl(alpha, self.max_alpha)
        else:
            each = log_normal_kl(y, alpha, self.prior_mean, self.prior_log_sigma)
        examples = y.shape[0] if y.dim() > 1 + self.geometry.spatial else 1
        return each.sum() / max(examples, 1)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last pass, which belongs to a graph and cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_divergence"}

    def extra_repr(self) -> str:
        """The layer's own text, and the settings that differ from their default."""
        defaults = {"max_alpha": 0.7, "activation": "relu"}
        changed = [f"{name}={getattr(self, name)!r}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join([self.adopted, *changed])


def _check_strength(value: Any, name: str, least: float | None = None) -> float:
    """A strength as a float: above 0, or of at least `least`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 < value < math.inf or value == least):
        raise InputError(f"{name} is a finite number {'above' if least is None else 'of at least'} 0", got=value,
                         fix="Pass a float such as 0.7")
    return float(value)


def _check_broadcast(alpha: Tensor, x: Tensor) -> None:
    pairs = zip(reversed(alpha.shape), reversed(x.shape), strict=False)
    if alpha.dim() > x.dim() or any(size not in (1, wanted) for size, wanted in pairs):
        raise InputError("strengths broadcast to the shape of x", got=phrase(f"{tuple(alpha.shape)} for {tuple(x.shape)}"),
                         fix="Pass one for each element, or size 1 where they are shared")
