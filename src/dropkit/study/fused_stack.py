"""Perceptrons of many runs at once without ``torch.vmap``, whose overhead is most of a small network's step."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.core.masks import INVERTED
from dropkit.core.streams import site_key
from dropkit.kernels.dispatch import apply_mask_inplace
from dropkit.kernels.reference import scale
from dropkit.study.fused_linear import stacked_linear
from dropkit.variants.dropout import Dropout

Rates = tuple[float, ...]  # one a run
Layer = Callable[[Mapping[str, Tensor], Mapping[nn.Module, Tensor], Tensor], Tensor]

_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
                nn.Hardswish, nn.Hardtanh, nn.Identity)
_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


class Stack:
    """A chain of layers that all take a dimension of runs in front.

    Args:
        layers: of parameters by name, (R, ...) each, rates by module, (R,) each, and data, (R, B, ...).
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def __call__(self, parameters: Mapping[str, Tensor], rates: Mapping[nn.Module, Tensor], x: Tensor) -> Tensor:
        """Run the chain inside `dropkit.core.streams.keyed_pass` with the seeds of all runs."""
        for layer in self._layers:
            x = layer(parameters, rates, x)
        return x


def stack_of(net: nn.Module) -> Stack | None:
    """Return the chain that computes many networks like ``net``, or None where a layer is none that can be told.

    Args:
        net: the network; ``nn.Sequential`` of flattening, linear layers, element-wise activations and dropout of elements.

    Example:
        >>> stack_of(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) is None
        True
    """
    if type(net) is not nn.Sequential or any(module._forward_hooks or module._forward_pre_hooks for module in net.modules()):
        return None
    layers, leaves = [], deque(_leaves(net, ""))
    while leaves:
        name, module = leaves.popleft()
        rectified = type(module) is nn.ReLU and bool(leaves) and _is_plain(leaves[0][1])
        layers.append(_drop(leaves.popleft()[1], _RectifiedDrop) if rectified else _layer(name, module))
    return None if None in layers else Stack([layer for layer in layers if layer is not None])


def stacked_loss(name: str) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return a loss by name for all runs: (R, B, ...) outputs and targets -> (R,); None for a loss of the user's.

    Example:
        >>> stacked_loss("mse")(torch.ones(3, 5, 1), torch.zeros(3, 5, 1))
        tensor([1., 1., 1.])
    """
    if name == "cross_entropy":
        return lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="none").view(len(y), -1).mean(1)
    loss = _LOSSES.get(name)
    return None if loss is None else lambda out, y: loss(out, y, reduction="none").flatten(1).mean(1)


def _leaves(net: nn.Sequential, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net.named_children():
        if type(module) is nn.Sequential:
            yield from _leaves(module, f"{prefix}{name}.")
        else:
            yield prefix + name, module


def _layer(name: str, module: nn.Module) -> Layer | None:
    if type(module) is nn.Linear:
        weight, bias = f"{name}.weight", f"{name}.bias" if module.bias is not None else ""
        return lambda parameters, _, x: stacked_linear(x, parameters[weight], parameters[bias] if bias else None)
    if type(module) is nn.Flatten and module.start_dim > 0:
        start, end = module.start_dim + 1, module.end_dim + (module.end_dim > 0)
        return lambda _, __, x: x.flatten(start, end)
    if type(module) in _ELEMENTWISE:
        return lambda _, __, x: module(x)
    return _drop(module, _Drop) if _is_plain(module) else None


def _is_plain(module: nn.Module) -> bool:
    return type(module) is Dropout and not module.share_dims and module.scaling == "inverted"


def _drop(site: Any, function: type[torch.autograd.Function]) -> Layer:
    def layer(_: Mapping[str, Tensor], rates: Mapping[nn.Module, Tensor], x: Tensor) -> Tensor:
        seeds, stream = site_key(site.stream)
        every = tuple(rates[site].tolist()) if site in rates else (site.p,) * len(x)
        out: Tensor = function.apply(x, seeds, every, stream)  # type: ignore[no-untyped-call]
        return out

    return layer


class _Drop(torch.autograd.Function):
    """Dropout of (R, ...) with a seed and a rate for each of the R."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seeds: Tensor, rates: Rates, stream: int) -> Tensor:
        ctx.law = seeds, rates, stream
        return _mask(_copy(x), seeds, rates, stream)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _mask(_copy(grads[0]), *ctx.law), None, None, None


class _RectifiedDrop(torch.autograd.Function):
    """Dropout of max(x, 0): the result is above 0 where both let through, so that the backward pass needs no second mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seeds: Tensor, rates: Rates, stream: int) -> Tensor:
        y = _mask(torch.relu(x).contiguous(), seeds, rates, stream)
        ctx.save_for_backward(y)
        ctx.scale = _scales(rates, torch.promote_types(x.dtype, torch.float32)).view(-1, *[1] * (x.dim() - 1))
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (grads[0] * ctx.scale).to(grads[0].dtype)
        return torch.ops.aten.threshold_backward(scaled, ctx.saved_tensors[0], 0), None, None, None


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _mask(y: Tensor, seeds: Tensor, rates: Rates, stream: int) -> Tensor:
    for row, seed, rate in zip(y.unbind(), seeds.unbind(), _as_tensors(rates), strict=True):
        if rate is not None:
            apply_mask_inplace(row, seed, rate, row.shape, stream, INVERTED)
    return y


@functools.lru_cache(maxsize=64)  # every step asks for the same few
def _as_tensors(rates: Rates) -> list[Tensor | None]:
    """Rates as the kernel takes them; None where nothing is dropped."""
    return [torch.tensor(p, dtype=torch.float64) if p > 0 else None for p in rates]


@functools.lru_cache(maxsize=64)
def _scales(rates: Rates, dtype: torch.dtype) -> Tensor:
    return scale(torch.tensor(rates, dtype=torch.float64)).to(dtype)
