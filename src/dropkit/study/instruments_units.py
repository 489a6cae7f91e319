"""Instruments that look at units in evaluation: dead ones, co-adaptation, and what the network is without some."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dropkit.core.streams import stream_number
from dropkit.study.instruments_subject import Subject
from dropkit.study.prepare import outputs_of

_LOOKED_AT = 256  # units of a layer, and values of each, that are correlated at most
_LAYERS = 4  # whose co-adaptation and ablation is measured, at most
_ABLATED = 64  # examples on which ablation is measured
_SHARES = (25, 50, 75)  # percent of the units that are zeroed


@dataclass
class Units:
    """What one weight layer reads: how many units, which share of them is dead, and a sample, (values, units)."""

    count: int
    dead: float
    sample: Tensor


@dataclass
class Seen:
    """An evaluation of the network: its outputs, and by layer the units that the layer reads."""

    outputs: Tensor
    layers: dict[str, Units] = field(default_factory=dict)

    @property
    def spread_out(self) -> list[str]:
        """Up to four of the layers, evenly spread over the depth, the first and the last among them."""
        names = list(self.layers)
        if len(names) <= _LAYERS:
            return names
        return [names[round(index * (len(names) - 1) / (_LAYERS - 1))] for index in range(_LAYERS)]


def evaluate(subject: Subject) -> Seen:
    """Run the subject in evaluation and look at the units that its weight layers read."""
    subject.model.eval()
    found: dict[str, Units] = {}
    known: list[Tensor] = []  # kept, so that no other tensor takes the place of one that is gone

    def look(layer: str, module: nn.Module, x: Tensor) -> None:
        if layer not in found and x.requires_grad and all(x is not other for other in known):
            known.append(x)
            found[layer] = _units(_last(module, x.detach()))

    # With a graph: an input that requires a gradient has been made by what is trained.
    with torch.enable_grad(), ExitStack() as undo:
        _listen(subject, look, undo)
        outputs = subject.forward(slice(subject.in_evaluation), 0)
    return Seen(outputs.detach(), found)


def units(seen: Seen) -> dict[str, Any]:
    """Return ``dead`` for all layers and ``correlation`` and ``effective_rank`` for some."""
    adapted = {layer: co_adaptation(seen.layers[layer].sample) for layer in seen.spread_out}
    return {"dead": {layer: each.dead for layer, each in seen.layers.items()},
            "correlation": {layer: each[0] for layer, each in adapted.items()},
            "effective_rank": {layer: each[1] for layer, each in adapted.items()}}


def co_adaptation(sample: Tensor) -> tuple[float, float]:
    """Return mean absolute correlation of two units and the participation ratio of the correlation matrix's eigenvalues.

    Units that never change are left out; NaN for fewer than two others.

    Args:
        sample: (values, units).

    Example:
        >>> correlation, rank = co_adaptation(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        >>> round(correlation, 3), round(rank, 3)
        (1.0, 1.0)
        >>> co_adaptation(torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]))
        (0.0, 2.0)
    """
    centred = sample - sample.mean(0)
    norms = torch.linalg.vector_norm(centred, dim=0)
    moving = norms > 1e-6 * torch.linalg.vector_norm(sample, dim=0)
    count = int(moving.sum())
    if count < 2:
        return float("nan"), float("nan")
    unit = centred[:, moving] / norms[moving]
    correlations = unit.T @ unit
    beside = float(correlations.abs().sum(dtype=torch.float64)) - count
    squares = float(correlations.square().sum(dtype=torch.float64))
    return max(0.0, beside / (count * (count - 1))), count * count / squares


def ablations(subject: Subject, seen: Seen) -> dict[str, Any]:
    """Return ``ablation_25``, ``ablation_50`` and ``ablation_75``: by layer how much the loss rises without such a share."""
    count = min(_ABLATED, len(seen.outputs))
    whole = _loss(subject, seen.outputs[:count])
    found: dict[str, dict[str, float]] = {f"ablation_{share}": {} for share in _SHARES}
    subject.model.eval()
    for layer in seen.spread_out:
        number = stream_number(f"ablation:{subject.seed}:{layer}")
        order = torch.randperm(seen.layers[layer].count, generator=torch.Generator().manual_seed(number))
        for share in _SHARES:
            kept = torch.ones(len(order))
            kept[order[: round(len(order) * share / 100)]] = 0.0
            found[f"ablation_{share}"][layer] = _loss(subject, _without(subject, layer, kept, count)) - whole
    return found


def _without(subject: Subject, layer: str, kept: Tensor, count: int) -> Tensor:
    """The outputs in evaluation when a layer reads zero for some of its units."""
    module = subject.weight_layers[layer]

    def zero(part: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        return (x * kept.to(x).view(-1, *[1] * _trailing(part, x)), *args[1:])

    handle = module.register_forward_pre_hook(zero)
    try:
        with torch.no_grad(), subject.draws(0):
            return outputs_of(subject.model, subject.x[:count].clone(), subject.y[:count])
    finally:
        handle.remove()


def _loss(subject: Subject, outputs: Tensor) -> float:
    return float(subject.ready.loss(outputs, subject.y[: len(outputs)]))


def _listen(subject: Subject, look: Callable[[str, nn.Module, Tensor], None], undo: ExitStack) -> None:
    for layer, module in subject.weight_layers.items():
        def hook(part: nn.Module, args: tuple[Any, ...], layer: str = layer) -> None:
            if args and isinstance(args[0], Tensor) and args[0].is_floating_point() and args[0].dim() > 1:
                look(layer, part, args[0])

        undo.callback(module.register_forward_pre_hook(hook).remove)


def _units(values: Tensor) -> Units:
    """What is kept of a layer's input, (..., units)."""
    flat = values.reshape(-1, values.shape[-1])
    dead = float((flat == 0).all(0).float().mean())
    rows, columns = (max(1, -(-length // _LOOKED_AT)) for length in flat.shape)  # every so many
    return Units(flat.shape[1], dead, flat[::rows, ::columns].float().clone())


def _last(module: nn.Module, x: Tensor) -> Tensor:
    return x.movedim(-1 - _trailing(module, x), -1)


def _trailing(module: nn.Module, x: Tensor) -> int:
    """How many dimensions of a layer's input come after that of its units."""
    return len(module.kernel_size) if isinstance(module, _ConvNd) else 0
