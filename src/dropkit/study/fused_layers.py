"""Layers of many perceptrons at once, forward and backward written out: a step builds no graph and asks for no new memory.

Everything here runs where gradients are off. Data is (R, B, ...): a batch for each of R networks.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.masks import INVERTED
from dropkit.core.streams import site_key
from dropkit.kernels.dispatch import apply_mask_inplace
from dropkit.kernels.reference import scale

Rates = tuple[float, ...]  # one a network
_NARROW = 4  # as many times more rows than units, and the product is made the other way round: half the time for ten classes


class Layer:
    """One layer of all networks."""

    trained = False
    """Whether it has parameters that are trained."""

    spare = False
    """Whether its output may be overwritten: its own backward pass does not look at it."""

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return the output; ``x`` is left as it is unless it is ``spare``."""
        raise NotImplementedError

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Leave the parameters' gradients in ``grad`` and return the input's where it is ``wanted``; overwrites ``grad``."""
        raise NotImplementedError


class Flatten(Layer):
    """``nn.Flatten`` of some dimensions behind that of the networks."""

    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return a view of x."""
        self._shape = x.shape
        return x.flatten(self._start, self._end)

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return a view of the gradient."""
        return grad.reshape(self._shape)


class Linear(Layer):
    """``nn.Linear``: (R, B, ..., I), (R, O, I), (R, O) -> (R, B, ..., O).

    Args:
        weight: of all networks.
        bias: likewise, or None.
    """

    spare = True

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        self._weight, self._bias = weight, bias
        self.trained = weight.requires_grad or (bias is not None and bias.requires_grad)
        self._out, self._turned, self._grad_in = _Memory(), _Memory(), _Memory()

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return a product of matrices a network."""
        rows = self._rows = x.reshape(len(x), -1, x.shape[-1])
        width = self._weight.shape[1]
        out = self._out.of(rows, (*rows.shape[:2], width))
        if _NARROW * width <= rows.shape[1]:
            turned = self._turned.of(rows, (len(rows), width, rows.shape[1]))
            out.copy_(_product(self._weight, rows.transpose(1, 2), self._bias, 2, turned).transpose(1, 2))
        else:
            _product(rows, self._weight.transpose(1, 2), self._bias, 1, out)
        return out.view(*x.shape[:-1], -1)

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return a product of matrices a network, after one for the weights and a sum for the biases."""
        of_rows = grad.reshape(*self._rows.shape[:2], grad.shape[-1])
        if self._weight.requires_grad:
            torch.bmm(of_rows.transpose(1, 2), self._rows, out=_gradient(self._weight))
        if self._bias is not None and self._bias.requires_grad:
            torch.sum(of_rows, 1, out=_gradient(self._bias))
        if not wanted:
            return grad
        found = torch.bmm(of_rows, self._weight, out=self._grad_in.of(of_rows, self._rows.shape))
        return found.view(*grad.shape[:-1], -1)


class ReLU(Layer):
    """``nn.ReLU``."""

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return max(x, 0)."""
        self._y = x.relu_() if spare else torch.relu(x)
        return self._y

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return the gradient where the output is above 0, and 0 elsewhere."""
        return _where_positive(grad, self._y)


class Elementwise(Layer):
    """Any other activation, whose derivative is left to autograd."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return the module's output, with a graph of its own."""
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            y: Tensor = self._module(self._x.clone() if getattr(self._module, "inplace", False) else self._x)
        self._y = y
        return y.detach()

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return what autograd does."""
        found, = torch.autograd.grad(self._y, self._x, grad)
        return found


class Dropout(Layer):
    """`dropkit.nn.Dropout` of elements with inverted scaling.

    Args:
        site: the module, which knows its stream.
        rates: of each network.
    """

    spare = True

    def __init__(self, site: Any, rates: Rates) -> None:
        self._site, self._rates = site, rates

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return x masked, inside `dropkit.core.streams.keyed_pass` with a seed a network."""
        seeds, stream = site_key(self._site.stream)
        self._key = seeds.unbind(), stream
        return self._mask(x if spare else x.clone(memory_format=torch.contiguous_format))

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return the gradient under the same masks."""
        return self._mask(grad)

    def _mask(self, y: Tensor) -> Tensor:
        seeds, stream = self._key
        for row, seed, rate in zip(y.unbind(), seeds, _as_tensors(self._rates), strict=True):
            if rate is not None:
                apply_mask_inplace(row, seed, rate, row.shape, stream, INVERTED)
        return y


class RectifiedDropout(Dropout):
    """Dropout of max(x, 0): the result is above 0 where both let through, so that the backward pass needs no second mask."""

    spare = False

    def forward(self, x: Tensor, spare: bool) -> Tensor:
        """Return max(x, 0) masked."""
        self._y = super().forward(x.relu_() if spare else torch.relu(x).contiguous(), spare=True)
        return self._y

    def backward(self, grad: Tensor, wanted: bool) -> Tensor:
        """Return the scaled gradient where the output is above 0, and 0 elsewhere."""
        scales = _scales(self._rates, torch.promote_types(grad.dtype, torch.float32))
        return _where_positive(grad.mul_(scales.view(-1, *[1] * (grad.dim() - 1))), self._y)


def _product(one: Tensor, other: Tensor, bias: Tensor | None, along: int, out: Tensor) -> Tensor:
    """Write a product of matrices a network into ``out``, plus its biases along a dimension."""
    return torch.bmm(one, other, out=out) if bias is None else torch.baddbmm(bias.unsqueeze(along), one, other, out=out)


class _Memory:
    """What a result is written to, kept from step to step, for each of the shapes of an epoch: a last batch may be smaller."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, ...], Tensor] = {}

    def of(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        held = self._held.get(tuple(shape))
        if held is None:
            held = self._held[tuple(shape)] = like.new_empty(shape)
        return held


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def _where_positive(grad: Tensor, y: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=grad)
    return found


@functools.lru_cache(maxsize=64)  # every step asks for the same few
def _as_tensors(rates: Rates) -> list[Tensor | None]:
    """Rates as the kernel takes them; None where nothing is dropped."""
    return [torch.tensor(p, dtype=torch.float64) if p > 0 else None for p in rates]


@functools.lru_cache(maxsize=64)
def _scales(rates: Rates, dtype: torch.dtype) -> Tensor:
    return scale(torch.tensor(rates, dtype=torch.float64)).to(dtype)
