"""Linear layers of many networks at once, with one product of matrices each way.

``torch.vmap`` adds the bias in a pass of its own, and leaves the weights' gradient transposed, which autograd then copies.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def speed_linear(model: nn.Module) -> None:
    """Let the linear layers of a model that runs under ``torch.vmap`` with batched weights take the short way.

    Args:
        model: changed in place; subclasses of ``nn.Linear`` stay as they are.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> speed_linear(layer)
        >>> weights = {"weight": torch.ones(3, 1, 2), "bias": torch.zeros(3, 1)}
        >>> one = lambda weights, x: torch.func.functional_call(layer, weights, (x,))
        >>> torch.vmap(one)(weights, torch.ones(3, 5, 2)).shape
        torch.Size([3, 5, 1])
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            vars(module)["forward"] = functools.partial(_forward, module)


def stacked_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the linear layers' outputs: (R, ..., I), (R, O, I), (R, O) -> (R, ..., O).

    Example:
        >>> stacked_linear(torch.ones(3, 5, 2), torch.ones(3, 1, 2), None).shape
        torch.Size([3, 5, 1])
    """
    rows = x.reshape(len(x), -1, x.shape[-1])  # out here: no view that comes out of a function may be changed in place
    out: Tensor = _Stacked.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], -1)


def _forward(module: nn.Linear, x: Tensor) -> Tensor:
    out: Tensor = _Linear.apply(x, module.weight, module.bias)  # type: ignore[no-untyped-call]
    return out


class _Stacked(torch.autograd.Function):
    """(R, N, I), (R, O, I), (R, O) -> (R, N, O)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        turned = weight.transpose(1, 2)
        return torch.bmm(x, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, turned)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), needs, grad = ctx.saved_tensors, ctx.needs_input_grad, grads[0]
        return (torch.bmm(grad, weight) if needs[0] else None,
                torch.bmm(grad.transpose(1, 2), x) if needs[1] else None, grad.sum(1) if needs[2] else None)


class _Linear(torch.autograd.Function):
    """``F.linear``, for `_Stacked` under ``torch.vmap``."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Nothing is kept: outside ``torch.vmap`` it is not differentiated."""

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], *tensors: Tensor | None) -> tuple[Tensor, int]:
        fronts = [None if tensor is None else tensor.expand(info.batch_size, *tensor.shape) if dim is None else
                  tensor.movedim(dim, 0) for dim, tensor in zip(dims, tensors, strict=True)]
        return stacked_linear(*fronts), 0  # type: ignore[arg-type]
