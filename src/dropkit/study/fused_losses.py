"""Losses of many runs at once, each with its gradient: building a graph for one is a tenth of a small network's step."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit.study.positions import IGNORED

StackedLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Outputs and targets, (R, B, ...), to the mean loss of each run, (R,), and the gradient of their sum, like the outputs."""


def stacked_loss(name: str) -> StackedLoss | None:
    """Return a loss by its name; None for one of the user's.

    Example:
        >>> losses, grad = stacked_loss("mse")(torch.ones(3, 5, 1), torch.zeros(3, 5, 1))
        >>> losses, grad.shape
        (tensor([1., 1., 1.]), torch.Size([3, 5, 1]))
    """
    return _LOSSES.get(name)


@torch.no_grad()
def _cross_entropy(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """-log softmax(out)[y], whose gradient is softmax(out) less one at the label; logits (R, ..., K), labels (R, ...)."""
    if y.dim() > 2:
        return _of_positions(out, y)
    label = y.unsqueeze(2)
    logs = torch.log_softmax(out, 2)
    losses = logs.gather(2, label).mean((1, 2)).neg_()
    return losses, logs.exp_().scatter_add_(2, label, out.new_full((), -1.0).expand(label.shape)).div_(y.shape[1])


def _of_positions(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same where positions without a label count for nothing."""
    flat, has = out.flatten(1, -2), (y != IGNORED).flatten(1)
    label = y.flatten(1).clamp(min=0).unsqueeze(2)
    weight = has / has.sum(1, keepdim=True)
    logs = torch.log_softmax(flat, 2)
    losses = -(logs.gather(2, label).squeeze(2) * weight).sum(1)
    grad = logs.exp_().scatter_add_(2, label, out.new_full((), -1.0).expand(label.shape)).mul_(weight.unsqueeze(2))
    return losses, grad.view_as(out)


def _elementwise(loss: Callable[..., Tensor], out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        out = out.detach().requires_grad_()
        losses = loss(out, y, reduction="none").flatten(1).mean(1)
        grad, = torch.autograd.grad(losses.sum(), out)
    return losses.detach(), grad.contiguous()


_LOSSES: dict[str, StackedLoss] = {"cross_entropy": _cross_entropy, **{
    name: functools.partial(_elementwise, loss) for name, loss in
    (("mse", F.mse_loss), ("l1", F.l1_loss), ("huber", F.huber_loss))}}
