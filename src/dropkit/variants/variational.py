"""Sparse variational dropout: each weight learns its own noise, and weights that are all noise are left out."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.variants.draw import draw_noise
from dropkit.variants.layers import LINEAR, AdoptedLayer, Geometry, apply_layer

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_LEAST_VARIANCE, _LEAST_SQUARE = 1e-16, 1e-8  # so that square roots and logarithms have gradients at 0, in half precision too


def variational_dropout(x: Tensor, weight: Tensor, log_sigma2: Tensor, bias: Tensor | None = None, training: bool = True, *,
                        threshold: float = 3.0, geometry: Geometry = LINEAR, generator: torch.Generator | None = None,
                        stream: str | None = None) -> Tensor:
    """Apply a layer whose weights are Gaussian, by sampling its output.

    ``y ~ N(W x + b, sigma^2 x^2)`` in training: W holds the means of the weights, ``sigma^2 = alpha W^2`` their variances, and
    alpha the noise of each, which stands for a rate of ``alpha / (1 + alpha)``; b is the bias, which has no noise. One
    noise is drawn for each output instead of one for each weight and example (local reparameterisation), which gives each
    output its exact distribution. In evaluation ``y = W' x + b``, where W' is W with 0 for the weights whose log alpha
    exceeds the threshold.

    Args:
        x: what the layer takes; real floating-point data.
        weight: the means.
        log_sigma2: logarithms of the variances, of the weight's shape.
        bias: the layer's. Default: None.
        training: whether to sample. Default: True.
        threshold: of log alpha, above which a weight counts as noise. Default: 3, a rate of 0.95.
        geometry: how the weight is applied; linear by default.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        What the layer returns.

    Raises:
        InputError: for integer or complex data, variances of another shape than the weight's, or a threshold that is not a
            number.

    Shape:
        As the layer's. log_sigma2: as the weight.

    Use:
        To find out which weights a network needs: train with the divergence (`variational_kl`, collected by
        ``dk.regularization_loss``) in the loss, then call ``prune_`` on the modules. The whole divergence from the first
        step on prunes before anything is learned: multiply it by a weight that rises from 0 to 1 over the first epochs, or
        begin from a trained network. A layer costs two products instead of one in training, and one in evaluation.

    Rates:
        Learned, one for each weight. Begin with log_sigma2 at -10, and keep the threshold at 3.

    Evidence:
        The paper reports up to 280 times fewer weights in LeNet networks and up to 68 times fewer in VGG-like ones, with a
        negligible loss of accuracy.

    Example:
        >>> weight, log_sigma2 = torch.tensor([[1.0, 0.01]]), torch.tensor([[-5.0, -5.0]])
        >>> variational_dropout(torch.ones(1, 2), weight, log_sigma2, training=False)  # log alpha is -5.0 and 4.2
        tensor([[1.]])

    References:
        Molchanov, Ashukha, Vetrov: "Variational dropout sparsifies deep neural networks", ICML 2017. Local
        reparameterisation: Kingma, Salimans, Welling: "Variational dropout and the local reparameterization trick",
        NeurIPS 2015. The naming dispute: in recurrent networks "variational dropout" means one binary mask for all time
        steps (Gal and Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks",
        NeurIPS 2016), which has no learned noise and is `locked_dropout` here.
    """
    _check_layer(check_data(x), weight, log_sigma2, threshold)
    if not training:
        return apply_layer(x, torch.where(log_alpha(weight, log_sigma2) > threshold, 0.0, weight), bias, geometry)
    mean = apply_layer(x, weight, bias, geometry)
    spread = _variance(x, log_sigma2, geometry).sqrt()
    noise = draw_noise(mean.shape, "normal", generator, stream, device=x.device).to(spread.dtype)
    return (mean.to(spread.dtype) + spread * noise).to(mean.dtype)


def variational_kl(weight: Tensor, log_sigma2: Tensor) -> Tensor:
    """The divergence of Gaussian weights from the log-uniform prior, up to a constant, in nats for the whole data set.

    ``KL = sum of k1 - k1 sigmoid(k2 + k3 log alpha) + log(1 + 1 / alpha) / 2`` over the weights, with ``alpha = sigma^2 / W^2``
    and k1, k2, k3 = 0.63576, 1.87320, 1.48695, which is the paper's approximation: within 0.01 of the integral for every
    alpha. It falls as alpha grows and tends to 0, where a weight is all noise. Nothing is clipped, since nothing overflows.

    Args:
        weight: the means.
        log_sigma2: logarithms of the variances, of the weight's shape.

    Returns:
        A tensor with no dimensions, in single precision at least.

    Shape:
        weight, log_sigma2: any, the same. Output: ().

    Example:
        >>> float(variational_kl(torch.ones(1), torch.full((1,), 20.0))) < 1e-6
        True

    References:
        Molchanov, Ashukha, Vetrov: "Variational dropout sparsifies deep neural networks", ICML 2017.
    """
    noise = log_alpha(weight, log_sigma2)
    return (_K1 * torch.sigmoid(-_K2 - _K3 * noise) + 0.5 * nn.functional.softplus(-noise)).sum()


def log_alpha(weight: Tensor, log_sigma2: Tensor) -> Tensor:
    """The logarithm of the noise of each weight, ``alpha = sigma^2 / W^2``.

    Args:
        weight: the means W.
        log_sigma2: logarithms of the variances sigma^2, of the weight's shape.

    Returns:
        A tensor of the weight's shape, in single precision at least; large and finite where a weight is 0.

    Shape:
        weight, log_sigma2: any, the same. Output: as weight.

    Example:
        >>> log_alpha(torch.tensor([-1.0]), torch.tensor([-3.0]))
        tensor([-3.])
    """
    wide, _ = compute_dtypes(weight.dtype)
    return log_sigma2.to(wide) - (weight.to(wide).square() + _LEAST_SQUARE).log()


class VariationalDropout(AdoptedLayer):
    """A layer whose weights learn their own noise; `variational_dropout` as a module.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        initial_log_sigma2: where the logarithms of the variances begin. Default: -10.
        threshold: of log alpha, above which a weight counts as noise. Default: 3.

    Raises:
        InputError: for a layer that cannot be adopted, or a start or threshold that is not a number.

    Shape:
        As the layer's.

    Example:
        >>> layer = VariationalDropout(nn.Linear(3, 4), initial_log_sigma2=-20.0)
        >>> sorted(layer.state_dict()), layer.sparsity
        (['bias', 'log_sigma2', 'weight'], 0.0)
    """

    log_sigma2: nn.Parameter
    """The learned parameter: the logarithm of each weight's variance."""

    def __init__(self, layer: nn.Module, *, initial_log_sigma2: float = -10.0, threshold: float = 3.0) -> None:
        super().__init__(layer)
        start = _check_number(initial_log_sigma2, "initial_log_sigma2", -10.0)
        if not math.isfinite(start):
            raise InputError("initial_log_sigma2 is finite", got=initial_log_sigma2, fix="Pass a float such as -10.0")
        self.threshold = _check_number(threshold, "threshold", 3.0)
        self.log_sigma2 = nn.Parameter(torch.full_like(self.weight, start))

    @property
    def rates(self) -> Tensor:
        """The rate that each weight has learned, ``alpha / (1 + alpha)``; of the weight's shape, without a gradient."""
        return torch.sigmoid(log_alpha(self.weight.detach(), self.log_sigma2.detach()))

    @property
    def p(self) -> float:
        """The mean of the rates that the weights have learned."""
        return float(self.rates.double().mean())

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that evaluation leaves out."""
        return float(self._noisy().double().mean())

    def forward(self, input: Tensor) -> Tensor:
        """Sample in training mode; see `variational_dropout`.

        Args:
            input: what the layer takes.
        """
        return variational_dropout(input, self.weight, self.log_sigma2, self.bias, self.training, threshold=self.threshold,
                                   geometry=self.geometry, stream=self.stream)

    def regularization(self) -> Tensor:
        """The divergence for ``dk.regularization_loss``, for the whole data set; see `variational_kl`."""
        return variational_kl(self.weight, self.log_sigma2)

    @torch.no_grad()
    def prune_(self) -> float:
        """Set the weights that evaluation leaves out to 0, so that the layer can be used without this module.

        Training on would move them again.

        Returns:
            The fraction of weights that are 0 now.

        Example:
            >>> layer = VariationalDropout(nn.Linear(3, 4), initial_log_sigma2=9.0)
            >>> layer.prune_(), layer.weight.count_nonzero().item()
            (1.0, 0)
        """
        self.weight.masked_fill_(self._noisy(), 0.0)
        return float((self.weight == 0).double().mean())

    def extra_repr(self) -> str:
        """The layer's own text, and the threshold where it differs from its default."""
        return self.adopted if self.threshold == 3.0 else f"{self.adopted}, threshold={self.threshold!r}"

    def _noisy(self) -> Tensor:
        return log_alpha(self.weight.detach(), self.log_sigma2.detach()) > self.threshold


def _variance(x: Tensor, log_sigma2: Tensor, geometry: Geometry) -> Tensor:
    """The variance of the output, in single precision at least: squares of half-precision data overflow at 256."""
    wide, _ = compute_dtypes(x.dtype)
    with _not_lowered(x.device.type):
        return apply_layer(x.to(wide).square(), log_sigma2.to(wide).exp(), None, geometry) + _LEAST_VARIANCE


def _not_lowered(device: str) -> AbstractContextManager[Any]:
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _check_layer(x: Tensor, weight: Tensor, log_sigma2: Tensor, threshold: Any) -> None:
    if x.is_complex():
        raise InputError("variational dropout acts on real data", got=x.dtype, fix="Pass real and imaginary parts as features")
    if log_sigma2.shape != weight.shape:
        raise InputError("log_sigma2 has the shape of the weight", fix="Pass one logarithm for each weight",
                         got=phrase(f"{tuple(log_sigma2.shape)} for {tuple(weight.shape)}"))
    _check_number(threshold, "threshold", 3.0)


def _check_number(value: Any, name: str, example: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InputError(f"{name} is a number", got=value, fix=f"Pass a float such as {example}")
    return float(value)
