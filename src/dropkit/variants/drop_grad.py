"""DropGrad: dropout of gradients on their way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dropkit.core.masks import check_data
from dropkit.core.seeds import draw_seed
from dropkit.core.streams import site_key, stream_number
from dropkit.kernels.dispatch import apply_mask
from dropkit.variants.draw import acting_rate
from dropkit.variants.site import RateSite


def drop_grad(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, rescale: bool = True,
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Pass values on as they are and drop elements of their gradient.

    ``y = x``; in the backward pass ``dx = dy * m / (1 - p)``, without the division when ``rescale`` is False. m is the mask,
    whose entries are 0 with probability p and otherwise 1, and p the rate. Seed and stream are taken in the forward pass.

    Args:
        x: floating-point data.
        p: probability of dropping an element of the gradient, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        rescale: whether what is kept is scaled so that the expected gradient stays the same. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor equal to x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], or integer data in training.

    Shape:
        x: any. Output: as x.

    Use:
        In meta-learning, on the gradients of the inner loop; and as noise on gradients that leaves the forward pass alone.

    Rates:
        0.1 to 0.2.

    Evidence:
        The paper reports better few-shot classification for gradient-based meta-learning.

    Example:
        >>> x = torch.ones(3, requires_grad=True)
        >>> drop_grad(x, 1.0).sum().backward()
        >>> x.grad
        tensor([0., 0., 0.])

    References:
        Tseng, Chen, Tsai, Liu, Lin, Yang: "Regularizing meta-learning via gradient dropout", ACCV 2020.
    """
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return x
    seed, number = site_key(stream, generator)
    check_data(x)
    if not torch.compiler.is_compiling():
        return _WithForwardMode.apply(x, seed, rate, number, rescale)  # type: ignore[no-any-return, no-untyped-call]
    # A mask that keeps everything: without a use of the seed in the forward pass, compilers draw it in the backward pass.
    x = apply_mask(x, seed, torch.zeros_like(rate), x.shape, number, False)
    return _MaskedGradient.apply(x, seed, rate, number, rescale)  # type: ignore[no-any-return, no-untyped-call]


class DropGrad(RateSite):
    """Drop elements of the gradient in training; `drop_grad` as a module.

    Args:
        p: probability of dropping an element of the gradient, in [0, 1]. Default: 0.1.
        rescale: whether what is kept is scaled by ``1 / (1 - p)``.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> DropGrad(0.2)
        DropGrad(p=0.2)
    """

    extras: ClassVar[Mapping[str, Any]] = {"rescale": True}

    def __init__(self, p: float = 0.1, *, rescale: bool = True) -> None:
        super().__init__()
        self.p, self.rescale = p, rescale

    def forward(self, input: Tensor) -> Tensor:
        """Pass on and drop the gradient in training mode; see `drop_grad`.

        Args:
            input: floating-point data of any shape.
        """
        return drop_grad(input, self.current_rate(), self.training, rescale=self.rescale, stream=self.stream)

    def attach(self, target: nn.Module | Iterable[Tensor]) -> list[RemovableHandle]:
        """Drop the gradients of parameters in every backward pass while this module is in training.

        For another module, seed and stream are taken when its forward pass begins, once for all its parameters, whose
        masks differ; a backward pass uses those of the last forward pass. Single parameters have no forward pass: their
        masks are drawn when gradients arrive, from PyTorch's generator, also inside ``dk.keyed``.

        Args:
            target: a module, of whose parameters those are taken that require a gradient, or such parameters.

        Returns:
            Handles; ``remove()`` of all of them ends it.

        Example:
            >>> layer = nn.Linear(2, 1)
            >>> handles = DropGrad(1.0).attach(layer)
            >>> layer(torch.ones(1, 2)).sum().backward()
            >>> layer.weight.grad
            tensor([[0., 0.]])
        """
        if not isinstance(target, nn.Module):
            return [parameter.register_hook(self._dropped) for parameter in target]  # type: ignore[no-untyped-call]
        key = _ForwardKey(self)
        found = [parameter for parameter in target.parameters() if parameter.requires_grad]
        hooks = [parameter.register_hook(partial(key.dropped, index))  # type: ignore[no-untyped-call]
                 for index, parameter in enumerate(found)]
        return [target.register_forward_pre_hook(key), *hooks]

    def _dropped(self, grad: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return grad
        return apply_mask(grad, draw_seed(), self.rate, grad.shape, 0, int(self.rescale))


class _ForwardKey:
    """Takes seed and stream when a module's forward pass begins, and masks the gradients of its parameters with them."""

    def __init__(self, drop: DropGrad) -> None:
        self.drop = drop
        self.key: tuple[Tensor, Tensor, int] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        rate = acting_rate(self.drop.p, self.drop.training, None, self.drop.stream)
        self.key = None if rate is None else (rate, *site_key(self.drop.stream))

    def dropped(self, index: int, grad: Tensor) -> Tensor:
        """Mask the gradient of the parameter with this index."""
        if self.key is None:
            return grad
        rate, seed, number = self.key
        return apply_mask(grad, seed, rate, grad.shape, stream_number(f"{number}/{index}"), int(self.drop.rescale))


class _MaskedGradient(torch.autograd.Function):
    """The identity whose backward pass is a mask; seed and rate are saved, not the mask."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, seed: Tensor, rate: Tensor, stream: int, rescale: bool) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, seed, rate, ctx.stream, ctx.rescale = inputs
        ctx.save_for_backward(seed, rate)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        seed, rate = ctx.saved_tensors
        return apply_mask(grads[0], seed, rate, grads[0].shape, ctx.stream, int(ctx.rescale)), None, None, None, None


class _WithForwardMode(_MaskedGradient):
    """Of which the tangents of forward mode pass unchanged; compilers do not take a function that has a ``jvp``."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return tangents[0].view_as(tangents[0])  # type: ignore[no-any-return]
