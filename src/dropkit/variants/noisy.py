"""Multiplicative noise around 1, normal or uniform: dropout's gentler relatives, which set nothing to zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, check_dims, mask_shape
from dropkit.core.rates import check_rate
from dropkit.variants.draw import acting_rate, draw_noisy
from dropkit.variants.site import RateSite, StreamSite


def gaussian_dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, *, share_dims: Iterable[int] = (),
                     generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Multiply by normal noise with the mean and variance of dropout's mask.

    ``y = x * (1 + s * e)`` with ``s = sqrt(p / (1 - p))`` in training and ``y = x`` in evaluation; x is the input, p the rate
    of the dropout that has the same variance, e standard normal noise, independent for every element. The noise has mean 1,
    so that nothing is rescaled in evaluation.

    Args:
        x: data of a floating-point type.
        p: rate of the dropout whose variance the noise has, in [0, 1). Default: 0.5, noise of standard deviation 1.
        training: whether to act. Default: True.
        share_dims: dimensions along which all elements share one factor.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1), integer data in training, or wrong dimensions. At a rate of 1 the variance
            would be infinite.

    Shape:
        x: any. Output: as x.

    Use:
        In place of `dropout` on hidden layers when every unit should keep a gradient in every step. Not before an activation
        or layer that cannot take values far outside its usual range: the noise is unbounded, and negative at times.

    Rates:
        As for `dropout`: 0.5 in hidden layers, 0.2 or less on inputs.

    Evidence:
        Srivastava et al. (2014, section 10) compare it with Bernoulli dropout on MNIST and CIFAR-10 and find it as good or
        slightly better. Wang and Manning (2013) derive it as dropout's normal approximation.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> y = gaussian_dropout(torch.ones(10000), p=0.2)
        >>> round(float(y.mean()), 1), round(float(y.std()), 1)
        (1.0, 0.5)

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to prevent neural networks from
        overfitting", JMLR 2014. Wang, Manning: "Fast dropout training", ICML 2013. Srivastava et al. write p for the
        probability of keeping.
    """
    rate = acting_rate(p, training, generator, stream, below_one=True)
    if rate is None:
        return x
    shape = mask_shape(check_data(x).shape, share_dims)
    return draw_noisy(x, (rate / (1 - rate)).sqrt(), "normal", shape, generator, stream)


def uniform_dropout(x: Tensor, b: float | Tensor = 0.1, training: bool = True, *, share_dims: Iterable[int] = (),
                    generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Multiply by uniform noise around 1.

    ``y = x * (1 + r)`` with r uniform on (-b, b), independent for every element, in training and ``y = x`` in evaluation; x
    is the input, b the half width of the noise.

    Args:
        x: data of a floating-point type.
        b: half width of the noise, in [0, 1]; no probability, since nothing is dropped. Default: 0.1.
        training: whether to act. Default: True.
        share_dims: dimensions along which all elements share one factor.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a half width outside [0, 1], integer data in training, or wrong dimensions.

    Shape:
        x: any. Output: as x.

    Use:
        Before batch normalisation, whose running variance dropout spoils: here the variance in training exceeds that of
        evaluation by the factor 1 + b^2/3 only. Not as the only regulariser of a network that overfits much.

    Rates:
        0.1. At most 1, where factors reach from 0 to 2.

    Evidence:
        Li et al. (2019) introduced it as Uout for that reason. With b = 0.1 the ratio of variances between evaluation and
        training is 300/301, against 0.9 for dropout at a rate of 0.1 (for inputs of mean 0).

    Example:
        >>> y = uniform_dropout(torch.ones(1000), b=0.1)
        >>> bool(((y - 1).abs() < 0.1).all())
        True

    References:
        Li, Chen, Hu, Yang: "Understanding the disharmony between dropout and batch normalization by variance shift",
        CVPR 2019. Named Uout there, with beta for b.
    """
    width = acting_rate(_check_width(b), training, generator, stream)
    if width is None:
        return x
    return draw_noisy(x, width, "uniform", mask_shape(check_data(x).shape, share_dims), generator, stream)


class GaussianDropout(RateSite):
    """Multiply by normal noise with the mean and variance of dropout's mask; `gaussian_dropout` as a module.

    Args:
        p: rate of the dropout whose variance the noise has, in [0, 1). Default: 0.5.
        share_dims: dimensions along which all elements share one factor.

    Raises:
        InputError: for a rate outside [0, 1) or dimensions that are not integers.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> GaussianDropout(0.2, share_dims=(1,))
        GaussianDropout(p=0.2, share_dims=(1,))
    """

    share_dims: tuple[int, ...] = ()
    below_one: ClassVar[bool] = True
    extras: ClassVar[Mapping[str, Any]] = {"share_dims": ()}

    def __init__(self, p: float = 0.5, *, share_dims: Iterable[int] = ()) -> None:
        super().__init__()
        self.p = p
        self.share_dims = check_dims(share_dims)

    def forward(self, input: Tensor) -> Tensor:
        """Multiply in training mode; see `gaussian_dropout`.

        Args:
            input: floating-point data of any shape.
        """
        return gaussian_dropout(input, self.current_rate(), self.training, share_dims=self.share_dims, stream=self.stream)


class UniformDropout(StreamSite):
    """Multiply by uniform noise around 1; `uniform_dropout` as a module.

    Args:
        b: half width of the noise, in [0, 1]; may be assigned at any time and is checked then. Default: 0.1.
        share_dims: dimensions along which all elements share one factor.

    Raises:
        InputError: for a half width outside [0, 1] or dimensions that are not integers.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> UniformDropout(0.2)
        UniformDropout(b=0.2)
    """

    share_dims: tuple[int, ...] = ()
    width: Tensor
    """The half width as compiled code reads it, so that a new value recompiles nothing."""

    def __init__(self, b: float = 0.1, *, share_dims: Iterable[int] = ()) -> None:
        super().__init__()
        self.b = b
        self.share_dims = check_dims(share_dims)

    @property
    def b(self) -> float:
        """Half width of the noise."""
        return self._b

    @b.setter
    def b(self, b: float) -> None:
        self._b = float(_check_width(b))
        if "width" in vars(self):
            self.width.fill_(self._b)
        else:  # not a buffer, which `half()` would round and `to()` would move
            vars(self)["width"] = torch.tensor(self._b, dtype=torch.float64, device="cpu")

    def forward(self, input: Tensor) -> Tensor:
        """Multiply in training mode; see `uniform_dropout`.

        Args:
            input: floating-point data of any shape.
        """
        return uniform_dropout(input, self._current_width(), self.training, share_dims=self.share_dims, stream=self.stream)

    def extra_repr(self) -> str:
        """The half width, then shared dimensions if there are any."""
        return f"b={self.b}" + (f", share_dims={self.share_dims}" if self.share_dims else "")

    def _current_width(self) -> float | Tensor:
        return self.width if torch.compiler.is_compiling() else self._b


def _check_width(b: float | Tensor) -> float | Tensor:
    if isinstance(b, Tensor) and torch.compiler.is_compiling():
        return b
    try:
        return check_rate(b, "b")
    except InputError:
        raise InputError("b is the half width of the noise: a number in [0, 1]", got=b,
                         fix="Pass a float such as 0.1; 0 does nothing") from None
