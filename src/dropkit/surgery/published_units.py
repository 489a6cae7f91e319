"""Published dropout of units, channels and blocks."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropkit.surgery.placement import after_activations, after_convolutions, on_input
from dropkit.surgery.recipe import AppliedPreset, PresetSchedule, begin, holds, misfit, modules_of, names_of
from dropkit.surgery.sources import GHIASI, SRIVASTAVA, TOMPSON
from dropkit.variants.drop_block import DropBlock2d
from dropkit.variants.max_norm import MaxNorm

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def srivastava_mlp(model: nn.Module, inputs: Any = None, *, c: float = 3.0) -> AppliedPreset:
    """Dropout of 0.2 on the input and 0.5 after each hidden activation, with a bound on the weights into each unit.

    The bound is the companion of the result: attach it to the optimiser.

    Args:
        model: linear layers with activations; changed in place.
        inputs: a batch, with which ``relu`` called as a function is found too.
        c: the bound on the norm of the weights into a unit; the paper's appendix names 3 to 4. Default: 3.

    Raises:
        InputError: for a model with convolutions or without hidden activations.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> put = srivastava_mlp(model)
        >>> [(site.name, site.p) for site in put.sites]
        [('0.before_model_dropout', 0.2), ('1.after_dropout', 0.5)]
    """
    modules = modules_of(model)
    if holds(modules, *_CONVOLUTIONS) or len(names_of(modules, nn.Linear)) < 2:
        raise misfit("srivastava_mlp", model, "two linear layers or more and no convolution")
    hidden, first = after_activations(model, 0.5, inputs=inputs), on_input(model, 0.2, inputs=inputs)
    with begin(model) as steps:
        companion = MaxNorm(model, c)
        steps.insert(hidden)
        steps.insert(first)
    return steps.done("srivastava_mlp", SRIVASTAVA, companion=companion)


def spatial_dropout(model: nn.Module, inputs: Any = None, *, p: float = 0.1) -> AppliedPreset:
    """Whole channels dropped after each convolution but the output layer's.

    Args:
        model: a network with convolutions; changed in place.
        inputs: a batch, by which the output layer is the last one that is called.
        p: the rate. The paper, which introduces the variant, is no source of this default. Default: 0.1.

    Raises:
        InputError: for a model without convolutions before its output.

    Example:
        >>> put = spatial_dropout(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 2)))
        >>> [(site.name, site.kind, site.p) for site in put.sites]
        [('0.after_dropout', 'dropout2d', 0.1)]
    """
    if not holds(modules_of(model), *_CONVOLUTIONS):
        raise misfit("spatial_dropout", model, "convolutions")
    placement = after_convolutions(model, p, inputs=inputs)
    with begin(model) as steps:
        steps.insert(placement)
    return steps.done("spatial_dropout", TOMPSON)


def drop_block_resnet50(model: nn.Module, inputs: Any = None) -> AppliedPreset:
    """DropBlock of 0.1 with blocks of 7 in groups 3 and 4 of a residual network, rising from 0 over training.

    It goes after each batch norm of these groups, projections of skip connections included; before a ReLU it does what it does
    after. Skip connections without a projection hold no module, and are left alone.

    Args:
        model: a residual network whose groups are ``layer3`` and ``layer4``, as torchvision's; changed in place.
        inputs: not needed.

    Raises:
        InputError: for a model without such groups.

    Example:
        >>> group = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
        >>> put = drop_block_resnet50(nn.ModuleDict({"layer3": group, "layer4": nn.Sequential(nn.BatchNorm2d(3))}))
        >>> [site.name for site in put.sites]
        ['layer3.1.after_dropout', 'layer4.0.after_dropout']
    """
    norms = [name for name in names_of(modules_of(model), nn.BatchNorm2d)
             if {"layer3", "layer4"}.intersection(name.split(".")[:-1])]
    if not {"layer3", "layer4"} <= {part for name in norms for part in name.split(".")}:
        raise misfit("drop_block_resnet50", model, "groups layer3 and layer4 with batch norms in them")
    with begin(model) as steps:
        steps.insert({name: DropBlock2d(0.1, 7) for name in norms})
        steps.notes.append("skip connections without a projection hold no module, and are left alone")
    return steps.done("drop_block_resnet50", GHIASI, PresetSchedule("linear(0.0, 0.1)"))
