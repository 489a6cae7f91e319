"""Published dropout that is early, late, or of whole residual branches."""

from __future__ import annotations

from typing import Any

from torch import nn

from dropkit.core.errors import InputError
from dropkit.surgery.insert import Placement
from dropkit.surgery.modules import kind_of
from dropkit.surgery.placement import after_activations, in_residual_branches
from dropkit.surgery.recipe import AppliedPreset, PresetSchedule, begin, holds, misfit, modules_of
from dropkit.surgery.sites import sites
from dropkit.surgery.sources import CONVNEXT, HUANG, LIU, SWIN, Source
from dropkit.variants.drop_path import DropPath
from dropkit.variants.dropout import Dropout

_CONVNEXT = {"tiny": 0.1, "small": 0.4, "base": 0.5, "large": 0.5}
_SWIN = {"tiny": 0.2, "small": 0.3, "base": 0.5}


def early_dropout_vit(model: nn.Module, inputs: Any) -> AppliedPreset:
    """Dropout of 0.1 in the first 50 of 300 epochs, falling linearly to 0, for models that underfit such as ViT-T.

    All dropout that the model has gets the rate, attention's included, as in the authors' code. A model without any gets it at
    the end of residual branches and after activations.

    Args:
        model: a vision transformer or another model with residual branches; changed in place.
        inputs: a batch, to find residual branches.

    Raises:
        InputError: for a model without residual branches.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        >>> early_dropout_vit(layer, torch.ones(2, 3, 8)).schedule.text
        'early(0.1, cutoff=50)'
    """
    branches = _in_branches("early_dropout_vit", model, inputs, Dropout(0.1), None)
    present = [site.name for site in sites(model) if site.settable
               and kind_of(site.module) in ("dropout", "attention", "attention_dropout")]
    with begin(model, aware=True) as steps:
        if present:
            steps.set_rate(dict.fromkeys(present, 0.1))
        else:
            steps.insert(branches)
            steps.insert(after_activations(model, 0.1, inputs=inputs))
    return steps.done("early_dropout_vit", LIU, PresetSchedule("early(0.1, cutoff=50)", epochs=300))


def early_stochastic_depth_vit(model: nn.Module, inputs: Any) -> AppliedPreset:
    """Stochastic depth of 0.5 in the first 50 of 300 epochs, falling linearly to 0, for models that underfit such as ViT-T.

    Rates grow linearly over the blocks, from 0 to the schedule's rate.

    Args:
        model: a model with residual branches; changed in place.
        inputs: a batch, to find them.

    Raises:
        InputError: for a model without residual branches.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> [site.p for site in early_stochastic_depth_vit(model, torch.ones(2, 3, 8)).sites]
        [0.0, 0.0, 0.5, 0.5]
    """
    schedule = PresetSchedule("early(0.5, cutoff=50)", epochs=300, scale="top")
    return _stochastic_depth("early_stochastic_depth_vit", model, inputs, 0.5, "linspace", LIU, schedule)


def late_stochastic_depth_vit(model: nn.Module, inputs: Any) -> AppliedPreset:
    """Stochastic depth of 0.4 from epoch 50 of 300 on, for models that overfit such as ViT-B.

    Args:
        model: a model with residual branches; changed in place.
        inputs: a batch, to find them.

    Raises:
        InputError: for a model without residual branches.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> late_stochastic_depth_vit(layer, torch.ones(2, 3, 8)).schedule.text
        'late(0.4, cutoff=50)'
    """
    schedule = PresetSchedule("late(0.4, cutoff=50)", epochs=300, scale="top")
    return _stochastic_depth("late_stochastic_depth_vit", model, inputs, 0.4, "linspace", LIU, schedule)


def convnext(model: nn.Module, inputs: Any, *, size: str = "tiny") -> AppliedPreset:
    """Stochastic depth of ConvNeXt: rates from 0 at the first block to 0.1 (tiny), 0.4 (small) or 0.5 (others) at the last.

    Args:
        model: a convolutional network with residual branches; changed in place.
        inputs: a batch, to find them.
        size: ``"tiny"``, ``"small"``, ``"base"`` or ``"large"``, as trained on ImageNet-1K. Default: ``"tiny"``.

    Raises:
        InputError: for a model without convolutions or residual branches, or an unknown size.

    Example:
        >>> import dropkit as dk
        >>> dk.presets.preset_named("convnext").rate
        '0 to 0.1, 0.4, 0.5, 0.5 by size'
    """
    rate = _of_size(_CONVNEXT, size)
    if not holds(modules_of(model), nn.Conv2d):
        raise misfit("convnext", model, "convolutions")
    return _stochastic_depth("convnext", model, inputs, rate, "linspace", CONVNEXT)


def swin(model: nn.Module, inputs: Any, *, size: str = "tiny") -> AppliedPreset:
    """Stochastic depth of Swin: rates from 0 at the first block to 0.2 (tiny), 0.3 (small) or 0.5 (base) at the last.

    Args:
        model: a model with residual branches; changed in place.
        inputs: a batch, to find them.
        size: ``"tiny"``, ``"small"`` or ``"base"``, as trained on ImageNet-1K. Default: ``"tiny"``.

    Raises:
        InputError: for a model without residual branches, or an unknown size.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> [site.p for site in swin(model, torch.ones(2, 3, 8), size="small").sites]
        [0.0, 0.0, 0.3, 0.3]
    """
    return _stochastic_depth("swin", model, inputs, _of_size(_SWIN, size), "linspace", SWIN)


def stochastic_depth_resnet(model: nn.Module, inputs: Any) -> AppliedPreset:
    """Stochastic depth of residual networks: rates l/L times 0.5 at block l of L.

    Args:
        model: a convolutional network with residual branches; changed in place.
        inputs: a batch, to find them.

    Raises:
        InputError: for a model without convolutions or residual branches.

    Example:
        >>> import dropkit as dk
        >>> str(dk.presets.preset_named("stochastic_depth_resnet").source)
        'Huang, Sun, Liu, Sedra, Weinberger: Deep networks with stochastic depth, 2016'
    """
    if not holds(modules_of(model), nn.Conv2d):
        raise misfit("stochastic_depth_resnet", model, "convolutions")
    return _stochastic_depth("stochastic_depth_resnet", model, inputs, 0.5, "paper", HUANG)


def _stochastic_depth(name: str, model: nn.Module, inputs: Any, p: float, rule: str, source: Source,
                      schedule: PresetSchedule | None = None) -> AppliedPreset:
    placement = _in_branches(name, model, inputs, DropPath(p), rule)
    with begin(model) as steps:
        steps.insert(placement)
    return steps.done(name, source, schedule)


def _in_branches(name: str, model: nn.Module, inputs: Any, dropout: nn.Module, rule: str | None) -> Placement:
    if inputs is None:
        raise InputError(f"{name} looks at a forward pass", got=inputs, fix="Pass a batch: preset(name, model, inputs)")
    try:
        return in_residual_branches(model, inputs, dropout, rule=rule)
    except InputError as error:
        raise InputError(f"{name} fits a model with residual branches", got=error.got, fix=error.fix) from error


def _of_size(rates: dict[str, float], size: Any) -> float:
    if size not in rates:
        raise InputError(f"size is one of {', '.join(rates)}", got=size, fix='Pass size="tiny" for the smallest')
    return rates[size]
