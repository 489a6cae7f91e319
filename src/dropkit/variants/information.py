"""Information dropout: multiplicative noise whose strength each unit learns from the input."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.core.rates import check_rate
from dropkit.variants.draw import draw_noise
from dropkit.variants.layers import AdoptedLayer, apply_layer

_FLOOR = 1e-3  # the least noise, so that the divergence stays finite


def information_dropout(x: Tensor, alpha: Tensor, training: bool = True, *, generator: torch.Generator | None = None,
                        stream: str | None = None) -> Tensor:
    """Multiply by log-normal noise of a given strength in training.

    ``y = x exp(alpha e)`` with e standard normal: the factor is log-normal with median 1, and alpha, which a network computes
    from its input, its strength. x is the activation.

    Args:
        x: activations of a floating-point type.
        alpha: strengths, at least 0, that broadcast with x.
        training: whether to act. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself in evaluation.

    Raises:
        InputError: for integer data in training.

    Shape:
        x: any. alpha: broadcasts with x. Output: as x.

    Use:
        When a representation should keep what matters for the task and forget the rest: with a divergence in the loss
        (``dk.regularization_loss``) it is the information bottleneck with learned noise.

    Rates:
        Learned, up to a largest alpha of 0.7; a weight of the divergence of 1e-3 to 1e-1 for each unit.

    Evidence:
        The paper reports better generalisation than binary dropout for small networks on MNIST and CIFAR-10, and
        representations that ignore clutter.

    Example:
        >>> information_dropout(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])

    References:
        Achille, Soatto: "Information dropout: learning optimal representations through noisy computation", IEEE TPAMI 2018.
    """
    if not training:
        return x
    wide, _ = compute_dtypes(check_data(x).dtype)
    noise = draw_noise(x.shape, "normal", generator, stream, device=x.device).to(wide)
    return (x.to(wide) * (alpha.to(wide) * noise).exp()).to(x.dtype)


class InformationDropout(AdoptedLayer):
    """A layer, its activation and learned log-normal noise; `information_dropout` as a module.

    ``y = f(W x + b) exp(alpha(x) e)`` with ``alpha(x) = a sigmoid(V x + c)``, a the largest strength. The term for the loss
    is the divergence from the prior that fits the activation, summed over units and averaged over the batch of the last
    forward pass in training. For ReLU, with a log-uniform prior, ``-log(alpha / a)``; for softplus, with a log-normal prior
    of parameters m and s, ``(alpha^2 + (log f - m)^2) / (2 s^2) - log(alpha / s) - 1/2``, with m and s learned.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        max_alpha: the largest strength a, in (0, 1]. Default: 0.7.
        activation: ``"relu"`` or ``"softplus"``.

    Raises:
        InputError: for a layer that cannot be adopted, a strength out of range or an unknown activation.

    Shape:
        As the layer's.

    Example:
        >>> layer = InformationDropout(nn.Linear(3, 4))
        >>> layer(torch.ones(2, 3)).shape, float(layer.regularization().detach()) > 0
        (torch.Size([2, 4]), True)
    """

    def __init__(self, layer: nn.Module, *, max_alpha: float = 0.7, activation: str = "relu") -> None:
        super().__init__(layer)
        if activation not in ("relu", "softplus"):
            raise InputError('activation is "relu" or "softplus"', got=activation, fix="Each has a prior of its own")
        if check_rate(max_alpha, "max_alpha") == 0:
            raise InputError("max_alpha is a number in (0, 1]", got=max_alpha, fix="Pass a float such as 0.7")
        self.max_alpha, self.activation = float(max_alpha), activation
        other = copy.deepcopy(layer)
        other.reset_parameters()  # type: ignore[operator]  # weights of their own
        self.alpha_weight, self.alpha_bias = nn.Parameter(_of(other, "weight")), nn.Parameter(
            torch.zeros(_of(other, "weight").shape[0], dtype=self.weight.dtype, device=self.weight.device))
        if activation == "softplus":
            self.prior_mean, self.prior_log_sigma = (nn.Parameter(self.weight.detach().new_zeros(())) for _ in range(2))
        self._divergence: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Add noise in training mode; see `information_dropout`.

        Args:
            input: what the layer takes.
        """
        z = apply_layer(input, self.weight, self.bias, self.geometry)
        y = nn.functional.relu(z) if self.activation == "relu" else nn.functional.softplus(z)
        if not self.training:
            return y
        share = torch.sigmoid(apply_layer(input, self.alpha_weight, self.alpha_bias, self.geometry))
        alpha = self.max_alpha * (_FLOOR + (1 - _FLOOR) * share)
        self._divergence = self._divergence_of(y, alpha)
        return information_dropout(y, alpha, stream=self.stream)

    def regularization(self) -> Tensor:
        """The divergence of the last forward pass in training, for ``dk.regularization_loss``.

        Raises:
            InputError: when there was no such pass.
        """
        if self._divergence is None:
            raise InputError("information dropout has a divergence after a forward pass in training", got=self._divergence,
                             fix="Call the model in training mode first")
        return self._divergence

    def _divergence_of(self, y: Tensor, alpha: Tensor) -> Tensor:
        if self.activation == "relu":
            each = -(alpha / self.max_alpha).log()
        else:
            sigma = self.prior_log_sigma.exp()
            gap = (y + torch.finfo(y.dtype).tiny).log() - self.prior_mean
            each = (alpha**2 + gap**2) / (2 * sigma**2) - (alpha / sigma).log() - 0.5
        examples = y.shape[0] if y.dim() > 1 + self.geometry.spatial else 1
        return each.sum() / max(examples, 1)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the last pass, which belongs to a graph and cannot be copied."""
        return {**vars(self), "_divergence": None}

    def extra_repr(self) -> str:
        """The layer's own text, the largest strength and the activation."""
        return f"{self.adopted}, max_alpha={self.max_alpha}, activation={self.activation!r}"


def _of(layer: nn.Module, name: str) -> Tensor:
    value = getattr(layer, name)
    assert isinstance(value, Tensor)
    return value.detach().clone()
