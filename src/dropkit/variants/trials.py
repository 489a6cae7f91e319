"""Inputs on which variants are tried: for contract checks, pictures and benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Callable[[int], tuple[Any, ...]]
Example = Callable[[], tuple[Any, ...]]

LAYER = ("weight", "bias")
"""The keys of a layer's state."""

RECURRENT = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
"""The keys of the state of a recurrent module of one layer."""


def normal(*shape: int) -> Inputs:
    """Return a maker of batches of normal data.

    Args:
        shape: of an example.

    Example:
        >>> normal(6, 10)(4)[0].shape
        torch.Size([4, 6, 10])
    """
    return lambda count: (torch.randn(count, *shape),)


def one(*shape: int) -> Example:
    """Return a maker of one normal example without the batch dimension.

    Args:
        shape: of an example.

    Example:
        >>> one(6, 10)()[0].shape
        torch.Size([6, 10])
    """
    return lambda: (torch.randn(shape),)


def attention_weights(*batch: int) -> tuple[Tensor]:
    """Return weights of two heads, five queries and six keys; each row is a distribution.

    Args:
        batch: the number of examples, or nothing for one without the batch dimension.

    Example:
        >>> attention_weights(4)[0].shape
        torch.Size([4, 2, 5, 6])
    """
    return (torch.randn(*batch, 2, 5, 6).softmax(-1),)


def attention_inputs(*batch: int) -> tuple[Any, ...]:
    """Return query, key, value and a mask in which one query may look at nothing.

    Args:
        batch: the number of examples, or nothing for one without the batch dimension.

    Example:
        >>> [tuple(x.shape) for x in attention_inputs()]
        [(2, 6, 4), (2, 5, 4), (2, 5, 3), (6, 5)]
    """
    mask = torch.ones(6, 5, dtype=torch.bool).tril()
    mask[2] = False
    return torch.randn(*batch, 2, 6, 4), torch.randn(*batch, 2, 5, 4), torch.randn(*batch, 2, 5, 3), mask


def tokens(*batch: int) -> tuple[Tensor]:
    """Return sequences of 12 numbers of words in [2, 9).

    Args:
        batch: the number of examples, or nothing for one without the batch dimension.

    Example:
        >>> tokens(3)[0].shape
        torch.Size([3, 12])
    """
    return (torch.randint(2, 9, (*batch, 12)),)


def edges(count: int) -> tuple[Tensor]:
    """Return the index of a graph of seven nodes with eight edges for each of ``count``.

    Args:
        count: how many times eight edges.

    Example:
        >>> edges(2)[0].shape
        torch.Size([2, 16])
    """
    numbers = torch.arange(8 * count)
    return (torch.stack((numbers % 5, numbers % 7)),)


def layer() -> nn.Linear:
    """Return a linear layer from ten to three features, the same one each time.

    Example:
        >>> layer()
        Linear(in_features=10, out_features=3, bias=True)
    """
    with torch.random.fork_rng(devices=[]):
        made = nn.Linear(10, 3)
    with torch.no_grad():
        made.weight.copy_(units())
        made.bias.fill_(0.5)
    return made


def states(*shape: int) -> Inputs:
    """Return a maker of two batches of normal data of one shape, as old and new states are.

    Args:
        shape: of an example.

    Example:
        >>> [x.shape for x in states(3)(2)]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """
    return lambda count: (torch.randn(count, *shape), torch.randn(count, *shape))


def recurrent(module: type[nn.RNNBase], **options: Any) -> nn.RNNBase:
    """Return a recurrent layer from four features to five units, batch first, with the same weights each time.

    Args:
        module: its class.
        options: what its constructor takes besides.

    Example:
        >>> recurrent(nn.GRU)
        GRU(4, 5, batch_first=True)
    """
    made: Any = module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer: nn.RNNBase = made(4, 5, batch_first=True, **options)
    return layer


def diagonal(module: type[nn.RNNBase], **options: Any) -> nn.RNNBase:
    """Return a recurrent layer, batch first, in which each of four units sees one feature of its own, faintly, and itself.

    Args:
        module: its class.
        options: what its constructor takes besides.

    Example:
        >>> diagonal(nn.RNN).weight_ih_l0.diagonal().tolist()
        [0.0010000000474974513, 0.0010000000474974513, 0.0010000000474974513, 0.0010000000474974513]
    """
    made: Any = module
    layer: nn.RNNBase = made(4, 4, batch_first=True, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        gates = len(layer.get_parameter("weight_ih_l0")) // 4
        layer.get_parameter("weight_ih_l0").copy_(1e-3 * torch.eye(4).repeat(gates, 1))
        if gates == 1:  # a plain cell remembers by its weights alone
            layer.get_parameter("weight_hh_l0").copy_(0.8 * torch.eye(4))
    return layer


class Survivors(nn.Module):
    """What of the data a module lets through, unchanged: for pictures of those that compute more than a product with a mask.

    Args:
        module: whose zeros are what it drops.

    Example:
        >>> Survivors(nn.Threshold(0.5, 0.0))(torch.tensor([0.25, 0.75]))
        tensor([0.0000, 0.7500])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return x, 0 where the module drops.

        Args:
            x: the data.
        """
        passed: Tensor = self.module(x)
        return x * (passed != 0).detach().to(x.dtype)


def moved(module: nn.Module) -> nn.Module:
    """Move a module's parameters away from where they were, as training does.

    Args:
        module: any.

    Example:
        >>> moved(layer()).bias.tolist()
        [1.5, 1.5, 1.5]
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    return module


def units() -> Tensor:
    """Return a weight of three units with ten inputs.

    Example:
        >>> units().shape
        torch.Size([3, 10])
    """
    return torch.linspace(-1, 1, 30).view(3, 10)


def table() -> Tensor:
    """Return an embedding of ten words in three features.

    Example:
        >>> table().shape
        torch.Size([10, 3])
    """
    return torch.linspace(1, 2, 30).view(10, 3)
