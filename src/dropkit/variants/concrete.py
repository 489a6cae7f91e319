"""Concrete dropout: the rate is learned with the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data, check_dims, compute_dtypes, mask_shape
from dropkit.core.rates import check_rate
from dropkit.core.streams import skip_site
from dropkit.variants.draw import draw_noise
from dropkit.variants.layers import AdoptedLayer, apply_layer

_EPS = 1e-7  # inside logarithms only
_CERTAIN = 750.0  # a logit whose rate is 0 or 1 in float64 too, and which float16 holds


def concrete_dropout(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, temperature: float = 0.1,
                     share_dims: Iterable[int] = (), generator: torch.Generator | None = None,
                     stream: str | None = None) -> Tensor:
    """Drop elements softly in training, so that the rate has a gradient.

    ``y = x (1 - z) / (1 - p)`` with ``z = sigmoid((log p - log(1 - p) + log u - log(1 - u)) / t)``: x is the input, p the
    rate, t the temperature and u uniform on (0, 1), fresh for each element. z exceeds 1/2 with probability p; as t tends
    to 0 it becomes 1 with probability p and otherwise 0. At p = 0 the output is the input, at p = 1 it is 0.

    Args:
        x: data of a floating-point type.
        p: the rate, in [0, 1]. A tensor with no dimensions may require a gradient; its value is not looked at, so that no
            accelerator has to wait. Default: 0.1.
        training: whether to drop. Default: True.
        temperature: t, above 0. Default: 0.1.
        share_dims: dimensions along which all elements share one decision, such as (-2, -1) for whole channels of images.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself in evaluation, and at a rate of 0 that is a number.

    Raises:
        InputError: for a rate outside [0, 1], a tensor that is no rate, a temperature that is not above 0, or, in
            training, integer data or wrong dimensions.

    Shape:
        x: any. p: () as a tensor. Output: as x.

    Use:
        In the place of dropout before linear layers and convolutions, where a search over rates costs too much, or where
        the rates should follow the data for a calibrated uncertainty. The regulariser belongs to it
        (``dk.regularization_loss``): without it nothing keeps the rate up and it falls towards 0. For an uncertainty, run
        several passes in training mode. To learn the rate of something that is not a layer, pass a tensor here.

    Rates:
        Learned, one for each layer. Begin at 0.1 with a temperature of 0.1.

    Evidence:
        In the paper's experiments the learned rates fall as the data grows, as the theory wants it. The tests of this
        library repeat that on y = 2 x + 8 + noise. The mean of (1 - z) / (1 - p) is 1 only at p = 0.5; at t = 0.1 it is
        below 1 by at most 0.0021 at lower rates, by numerical integration, and above by 0.012 at p = 0.9.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> y = concrete_dropout(torch.ones(1000), 0.3)
        >>> 0.9 < float(y.mean()) < 1.1
        True

    References:
        Gal, Hron, Kendall: "Concrete dropout", NeurIPS 2017. The distribution of z: Maddison, Mnih, Teh: "The concrete
        distribution: a continuous relaxation of discrete random variables", and Jang, Gu, Poole: "Categorical
        reparameterization with Gumbel-softmax", both ICLR 2017.
    """
    rate, t = _check_learned(p), _check_temperature(temperature)
    if not training:
        return x
    shape = mask_shape(check_data(x).shape, share_dims)
    if rate is None:
        if generator is None:
            skip_site(stream)
        return x
    wide, factor = compute_dtypes(x.dtype)
    rate = rate.to(x.device, factor)
    u = draw_noise(shape, "uniform", generator, stream, device=x.device).to(factor)
    y = x.to(wide) * _soft_mask(rate, u, t)
    return torch.where(rate < 1, y, 0.0).to(x.dtype)  # selected: infinities and NaN are dropped too


class ConcreteDropout(AdoptedLayer):
    """A layer with concrete dropout on its input and the regulariser of both; `concrete_dropout` as a module.

    The term for the loss is ``w |W|^2 / (1 - p) + r d (p log p + (1 - p) log(1 - p))``: W is the weight, p the rate and d the
    number of input features, or of input channels of a convolution. For the paper's Gaussian process with length scale l,
    precision tau and N examples, ``w = l^2 / (tau N)`` and ``r = 2 / (tau N)`` beside a mean squared error; beside a mean
    cross-entropy, ``w = l^2 / (2 N)`` and ``r = 1 / N``. Both hold N, so ``dk.regularization_loss`` does not divide the term.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        p: where the rate begins, in [0, 1]; no gradient leads away from 0 and 1. Default: 0.1.
        weight_regularizer: w, at least 0. Default: 1e-6.
        dropout_regularizer: r, at least 0. Default: 1e-5.
        temperature: above 0. Default: 0.1.
        share_dims: dimensions of the input along which all elements share one decision, such as (-2, -1) for whole channels
            of images, which suits d best.

    Raises:
        InputError: for a layer that cannot be adopted, a number out of range, or dimensions that are not integers.

    Shape:
        As the layer's.

    Example:
        >>> layer = ConcreteDropout(nn.Linear(3, 4), p=0.2)
        >>> round(layer.p, 6), sorted(layer.state_dict())
        (0.2, ['bias', 'p_logit', 'weight'])
    """

    p_logit: nn.Parameter
    """The learned parameter: ``log p - log(1 - p)``."""

    per_example: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, Any]] = {"weight_regularizer": 1e-6, "dropout_regularizer": 1e-5, "temperature": 0.1,
                                           "share_dims": ()}

    def __init__(self, layer: nn.Module, p: float = 0.1, *, weight_regularizer: float = 1e-6, dropout_regularizer: float = 1e-5,
                 temperature: float = 0.1, share_dims: Iterable[int] = ()) -> None:
        super().__init__(layer)
        self.p_logit = nn.Parameter(torch.full((), _logit(p), dtype=self.weight.dtype, device=self.weight.device))
        self.weight_regularizer = _check_factor(weight_regularizer, "weight_regularizer")
        self.dropout_regularizer = _check_factor(dropout_regularizer, "dropout_regularizer")
        self.temperature, self.share_dims = _check_temperature(temperature), check_dims(share_dims)

    @property
    def p(self) -> float:
        """Probability of dropping, as learned so far; assigning to it moves the parameter."""
        return float(torch.sigmoid(self.p_logit.detach().double()))

    @p.setter
    def p(self, p: float) -> None:
        with torch.no_grad():
            self.p_logit.fill_(_logit(p))

    def current_rate(self) -> Tensor:
        """The rate with its gradient, in single precision, or double for a double parameter."""
        return torch.sigmoid(self.p_logit.to(compute_dtypes(self.p_logit.dtype)[1]))

    def forward(self, input: Tensor) -> Tensor:
        """Drop softly in training mode and apply the layer; see `concrete_dropout`.

        Args:
            input: what the layer takes.
        """
        x = concrete_dropout(input, self.current_rate(), self.training, temperature=self.temperature,
                             share_dims=self.share_dims, stream=self.stream)
        return apply_layer(x, self.weight, self.bias, self.geometry)

    def regularization(self) -> Tensor:
        """The term for ``dk.regularization_loss``, with finite gradients at rates of 0 and 1 too."""
        wide, _ = compute_dtypes(self.weight.dtype)
        p, features = self.current_rate().to(wide), self.weight.shape[1] * self.geometry.groups
        entropy = torch.special.entr(p.clamp_min(_EPS)) + torch.special.entr((1 - p).clamp_min(_EPS))
        squares = self.weight.to(wide).square().sum() / (1 - p).clamp_min(_EPS)
        term: Tensor = self.weight_regularizer * squares - self.dropout_regularizer * features * entropy
        return term

    def extra_repr(self) -> str:
        """The layer's own text, the rate, and the extras that differ from their default."""
        extras = [f"{name}={getattr(self, name)!r}" for name, default in self.extras.items() if getattr(self, name) != default]
        return ", ".join([self.adopted, f"p={self.p:.4g}", *extras])


def _soft_mask(p: Tensor, u: Tensor, temperature: float) -> Tensor:
    """``(1 - z) / (1 - p)``; 1 at p = 0 and 0 at p = 1, where its parts have no limit, and with finite gradients."""
    q = 1 - p
    logit = torch.where(p > 0, (p + _EPS).log() - (q + _EPS).log(), -_CERTAIN * temperature - _CERTAIN)
    keep = torch.sigmoid((torch.logit(u) + logit) / -temperature)
    return keep / torch.where(q > 0, q, 1.0)


def _logit(p: Any) -> float:
    rate = check_rate(p)
    if rate in (0.0, 1.0):
        return math.copysign(_CERTAIN, rate - 0.5)
    return math.log(rate) - math.log1p(-rate)


def _check_learned(p: Any) -> Tensor | None:
    """The rate as a tensor, or None for a number that is 0."""
    if not isinstance(p, Tensor):
        rate = check_rate(p)
        return torch.tensor(rate, dtype=torch.float64, device="cpu") if rate > 0 else None
    if p.dim() > 0 or not p.is_floating_point():
        raise InputError("a learned rate is a floating-point tensor with no dimensions",
                         got=phrase(f"{p.dtype} of shape {tuple(p.shape)}"), fix="Pass torch.sigmoid of a parameter like it")
    return p


def _check_temperature(temperature: Any) -> float:
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise InputError("a temperature is a number above 0", got=temperature, fix="Pass a float such as 0.1")
    return float(temperature)


def _check_factor(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{name} is a number of at least 0", got=value, fix="Pass a float such as 1e-6")
    return float(value)
