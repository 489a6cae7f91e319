"""Perceptrons of many runs at once without ``torch.vmap`` and autograd, whose overhead is most of a small network's step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from dropkit.study.fused_layers import Dropout, Elementwise, Flatten, Layer, Linear, Rates, RectifiedDropout, ReLU
from dropkit.study.fused_losses import StackedLoss
from dropkit.variants import dropout

_ELEMENTWISE = (nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
                nn.Hardswish, nn.Hardtanh)


class Stack:
    """A chain of layers that all take a dimension of runs in front.

    Args:
        layers: from the first to the last.
    """

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._wanted = [any(layer.trained for layer in layers[:at]) for at in range(len(layers))]

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor, loss: StackedLoss) -> tuple[Tensor, Tensor]:
        """Run the chain inside `dropkit.core.streams.keyed_pass` with the seeds of all runs, and leave gradients behind.

        Args:
            x: (R, B, ...), a batch a run, left as it is.
            y: (R, B, ...), its targets.
            loss: of outputs and targets.

        Returns:
            Losses, (R,), and outputs, (R, B, ...). Each run's parameters get the gradient of its own loss.
        """
        out, spare = x, False
        for layer in self._layers:
            out, spare = layer.forward(out, spare), layer.spare
        kept = out.clone()  # by the caller; the layers' memory is used again
        shaped = kept.unsqueeze(2) if kept.dim() == 2 and y.dim() == 3 else kept
        losses, grad = loss(shaped, y)
        grad = grad.view_as(out)
        for layer, wanted in zip(self._layers[::-1], self._wanted[::-1], strict=True):
            if not (wanted or layer.trained):
                break
            grad = layer.backward(grad, wanted)
        return losses, shaped


def stack_of(net: nn.Module, parameters: Mapping[str, nn.Parameter], rates: Mapping[nn.Module, Rates]) -> Stack | None:
    """Return the chain that computes many networks like ``net``, or None where a layer is none that can be told.

    Args:
        net: the network; ``nn.Sequential`` of flattening, linear layers, element-wise activations and dropout of elements.
        parameters: (R, ...) each, by name.
        rates: those of the R runs, by site.

    Example:
        >>> stack_of(nn.Sequential(nn.BatchNorm1d(2)), {}, {}) is None
        True
    """
    if type(net) is not nn.Sequential or any(module._forward_hooks or module._forward_pre_hooks for module in net.modules()):
        return None
    if len(parameters) < sum(1 for _ in net.named_parameters(remove_duplicate=False)):
        return None  # layers share weights, whose gradients would have to be added up
    layers, leaves = list[Layer | None](), deque(_leaves(net, ""))
    while leaves:
        name, module = leaves.popleft()
        if type(module) is nn.ReLU and leaves and _is_plain(leaves[0][1]):
            site = leaves.popleft()[1]
            layers.append(RectifiedDropout(site, rates[site]))
        elif _is_plain(module):
            layers.append(Dropout(module, rates[module]))
        elif type(module) is nn.Linear:
            layers.append(Linear(parameters[f"{name}.weight"], parameters.get(f"{name}.bias")))
        elif type(module) is not nn.Identity:
            layers.append(_plain(module))
    return None if None in layers else Stack([layer for layer in layers if layer is not None])


def _leaves(net: nn.Sequential, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, module in net._modules.items():  # named_children leaves out what comes a second time
        if type(module) is nn.Sequential:
            yield from _leaves(module, f"{prefix}{name}.")
        elif module is not None:
            yield prefix + name, module


def _plain(module: nn.Module) -> Layer | None:
    if type(module) is nn.ReLU:
        return ReLU()
    if type(module) is nn.Flatten and module.start_dim > 0:
        return Flatten(module.start_dim + 1, module.end_dim + (module.end_dim > 0))
    return Elementwise(module) if type(module) in _ELEMENTWISE else None


def _is_plain(module: nn.Module) -> bool:
    return type(module) is dropout.Dropout and not module.share_dims and module.scaling == "inverted"
