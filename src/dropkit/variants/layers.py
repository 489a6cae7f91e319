"""Taking over a layer: variants that act on weights adopt the parameters and the geometry of a torch layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from dropkit.core.errors import InputError, phrase
from dropkit.variants.site import RateSite, StreamSite

_CONVOLUTIONS = {"conv1d": F.conv1d, "conv2d": F.conv2d, "conv3d": F.conv3d}
_LAYERS: dict[str, type[Any]] = {"linear": nn.Linear, "conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}


@dataclass(frozen=True)
class Geometry:
    """How a weight is applied: everything about a layer that is not a parameter.

    Args:
        kind: ``"linear"``, ``"conv1d"``, ``"conv2d"`` or ``"conv3d"``.
        stride: one number a spatial dimension; nothing for ``"linear"``, as in what follows.
        padding: one number a spatial dimension, ``"valid"`` or ``"same"``.
        dilation: one number a spatial dimension.
        groups: groups of channels that do not mix.
        padding_mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
    """

    kind: str = "linear"
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "zeros"

    @property
    def spatial(self) -> int:
        """How many spatial dimensions the layer's data has."""
        return 0 if self.kind == "linear" else int(self.kind[4])


LINEAR = Geometry()
"""The geometry of every ``nn.Linear``."""


def check_layer(layer: Any) -> Geometry:
    """The geometry of a layer that can be adopted, or an error that says why it cannot.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``.

    Raises:
        InputError: for any other module, a subclass with a forward of its own, a layer that is not initialised yet, or one
            whose weight is computed (``weight_norm``, ``parametrize``) or which has hooks.

    Example:
        >>> check_layer(nn.Conv1d(2, 4, 3, padding="same")).padding
        'same'
    """
    kind = next((name for name, parent in _LAYERS.items() if isinstance(layer, parent)), None)
    if kind is None or type(layer).forward is not _LAYERS[kind].forward or not _keeps_conv_forward(layer, kind):
        raise InputError("a layer to adopt is an nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d with torch's own forward",
                         got=phrase(type(layer).__name__), fix="Pass such a layer, or call the variant's function in a forward")
    if isinstance(layer, LazyModuleMixin):
        raise InputError("a layer to adopt has its parameters already", got=phrase(f"an uninitialised {type(layer).__name__}"),
                         fix="Run a batch through the lazy layer first")
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        raise InputError("a layer to adopt holds its weight as a parameter", got=phrase(f"{type(layer).__name__} with a "
                         "computed weight"), fix="Adopt the layer before weight_norm, parametrize or pruning, or remove them")
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        raise InputError("a layer to adopt has no hooks, which would be lost", got=phrase(f"{type(layer).__name__} with hooks"),
                         fix="Remove the hooks, adopt the layer, and register them on the new module")
    if kind == "linear":
        return LINEAR
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    return Geometry(kind, tuple(layer.stride), padding, tuple(layer.dilation), layer.groups, layer.padding_mode)


def adopt(module: nn.Module, layer: Any) -> None:
    """Make a layer's parameters a module's own, under the same names, so that both have the same ``state_dict`` keys.

    ``module.weight`` and ``module.bias`` are the layer's parameters themselves, not copies; ``module.geometry`` says how to
    apply them. The layer's sizes (``in_features``, ``kernel_size``, ...) and its mode are taken over too.

    Args:
        module: a module whose ``__init__`` has called ``super().__init__()``.
        layer: as in `check_layer`.

    Raises:
        InputError: as in `check_layer`.

    Example:
        >>> module = nn.Module()
        >>> adopt(module, nn.Linear(2, 3))
        >>> list(module.state_dict()), module.out_features
        (['weight', 'bias'], 3)
    """
    geometry = check_layer(layer)
    for name in layer.__constants__:
        setattr(module, name, getattr(layer, name))
    module.register_parameter("weight", layer.weight)
    module.register_parameter("bias", layer.bias)
    module.geometry = geometry  # type: ignore[assignment]
    module.adopted = layer.extra_repr()
    module.train(layer.training)


def apply_layer(x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: Geometry = LINEAR) -> Tensor:
    """What the layer of this geometry does with x, a weight and a bias.

    Args:
        x: data with the layer's layout; convolutions take it with or without the batch dimension.
        weight: as the layer's.
        bias: as the layer's.
        geometry: how to apply them. Default: linear.

    Shape:
        As the layer's.

    Example:
        >>> import torch
        >>> layer = nn.Conv1d(2, 4, 3, padding="same", padding_mode="circular")
        >>> x = torch.randn(5, 2, 9)
        >>> torch.equal(apply_layer(x, layer.weight, layer.bias, check_layer(layer)), layer(x))
        True
    """
    if geometry.kind == "linear":
        return F.linear(x, weight, bias)
    convolve, padding = _CONVOLUTIONS[geometry.kind], geometry.padding
    if geometry.padding_mode != "zeros":
        x, padding = pad(x, weight.shape[2:], geometry), (0,) * geometry.spatial
    return convolve(x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups)


def pad(x: Tensor, kernel_size: tuple[int, ...], geometry: Geometry) -> Tensor:
    """X with the border a convolution adds, by any padding mode, so that a convolution without padding can follow.

    Args:
        x: data of a convolution.
        kernel_size: one number a spatial dimension.
        geometry: of the convolution.

    Example:
        >>> import torch
        >>> pad(torch.ones(1, 1, 2), (3,), Geometry("conv1d", (1,), "same", (1,)))
        tensor([[[0., 1., 1., 0.]]])
    """
    sides = [side for before_after in reversed(_borders(kernel_size, geometry)) for side in before_after]
    if not any(sides):
        return x
    mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
    return F.pad(x, sides, mode=mode)


class AdoptedLayer(StreamSite):
    """A module with the parameters of a layer.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``; its parameters become this module's.

    Raises:
        InputError: as in `check_layer`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    geometry: Geometry
    adopted: str

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        adopt(self, layer)

    def extra_repr(self) -> str:
        """The layer's own text, then the rate and the extras where there are any."""
        return ", ".join(text for text in (self.adopted, super().extra_repr()) if text)


class RatedLayer(AdoptedLayer, RateSite):
    """A module with the parameters of a layer, and a rate.

    Args:
        layer: as in `AdoptedLayer`.
        p: probability of dropping, in [0, 1].

    Raises:
        InputError: for a layer that cannot be adopted, or a rate out of range.

    Example:
        >>> RatedLayer(nn.Linear(2, 3), 0.5)
        RatedLayer(in_features=2, out_features=3, bias=True, p=0.5)
    """

    def __init__(self, layer: nn.Module, p: float = 0.5) -> None:
        super().__init__(layer)
        self.p = p


def _keeps_conv_forward(layer: Any, kind: str) -> bool:
    return kind == "linear" or type(layer)._conv_forward is _LAYERS[kind]._conv_forward


def _borders(kernel_size: tuple[int, ...], geometry: Geometry) -> list[tuple[int, int]]:
    """Before and after each spatial dimension; an odd total has its larger half after, as torch's "same" has."""
    if geometry.padding == "valid":
        return [(0, 0)] * geometry.spatial
    if geometry.padding == "same":
        totals = [gap * (size - 1) for gap, size in zip(geometry.dilation, kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(size, size) for size in geometry.padding]  # type: ignore[misc]
