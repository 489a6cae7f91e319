"""Published uses of dropout, each applied to a model by one call."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from dropkit.core.errors import InputError
from dropkit.surgery import sources
from dropkit.surgery.published_depth import (
    convnext,
    early_dropout_vit,
    early_stochastic_depth_vit,
    late_stochastic_depth_vit,
    stochastic_depth_resnet,
    swin,
)
from dropkit.surgery.published_sequences import awd_lstm, transformer_base, zaremba_large, zaremba_medium
from dropkit.surgery.published_units import drop_block_resnet50, spatial_dropout, srivastava_mlp
from dropkit.surgery.recipe import AppliedPreset

__all__ = [
    "PRESETS", "Preset", "awd_lstm", "convnext", "drop_block_resnet50", "early_dropout_vit", "early_stochastic_depth_vit",
    "late_stochastic_depth_vit", "preset", "preset_named", "spatial_dropout", "srivastava_mlp", "stochastic_depth_resnet",
    "swin", "transformer_base", "zaremba_large", "zaremba_medium",
]


@dataclass(frozen=True)
class Preset:
    """A row of the table of presets.

    Args:
        apply: the function that applies it; its name is the preset's.
        variant: what drops.
        place: where.
        rate: with which rate.
        source: where it was published.
        schedule: how the rate moves over training.
    """

    apply: Callable[..., AppliedPreset]
    variant: str
    place: str
    rate: str
    source: sources.Source
    schedule: str = "constant"

    @property
    def name(self) -> str:
        """The preset's name."""
        return self.apply.__name__


PRESETS: tuple[Preset, ...] = (
    Preset(srivastava_mlp, "Dropout, MaxNorm", "input; after hidden activations", "0.2; 0.5; c = 3", sources.SRIVASTAVA),
    Preset(awd_lstm, "EmbeddingDropout, WeightDrop, LockedDropout",
           "words; recurrent weights; word vectors, between LSTMs, after the last", "0.1; 0.5; 0.4, 0.3, 0.4", sources.MERITY),
    Preset(zaremba_medium, "Dropout", "before, between and after LSTM layers", "0.5", sources.ZAREMBA),
    Preset(zaremba_large, "Dropout", "before, between and after LSTM layers", "0.65", sources.ZAREMBA),
    Preset(transformer_base, "Dropout", "end of each sub-layer; sums of embeddings and positions", "0.1", sources.VASWANI),
    Preset(early_dropout_vit, "Dropout", "all dropout of the model, or branch ends and activations", "0.1", sources.LIU,
           "early(0.1, cutoff=50)"),
    Preset(early_stochastic_depth_vit, "DropPath", "residual branches, linspace over depth", "0 to 0.5", sources.LIU,
           "early(0.5, cutoff=50)"),
    Preset(late_stochastic_depth_vit, "DropPath", "residual branches, linspace over depth", "0 to 0.4", sources.LIU,
           "late(0.4, cutoff=50)"),
    Preset(convnext, "DropPath", "residual branches, linspace over depth", "0 to 0.1, 0.4, 0.5, 0.5 by size", sources.CONVNEXT),
    Preset(swin, "DropPath", "residual branches, linspace over depth", "0 to 0.2, 0.3, 0.5 by size", sources.SWIN),
    Preset(stochastic_depth_resnet, "DropPath", "residual branches, l/L over depth", "up to 0.5", sources.HUANG),
    Preset(drop_block_resnet50, "DropBlock2d, k = 7", "batch norms of groups 3 and 4", "0.1", sources.GHIASI,
           "linear(0.0, 0.1)"),
    Preset(spatial_dropout, "Dropout1d, 2d, 3d", "after convolutions", "0.1", sources.TOMPSON),
)


def preset_named(name: str) -> Preset:
    """The row of a preset.

    Args:
        name: of the preset.

    Raises:
        InputError: when there is no such preset.

    Example:
        >>> preset_named("zaremba_large").rate
        '0.65'
    """
    rows = {row.name: row for row in PRESETS}
    if not isinstance(name, str) or name not in rows:
        near = difflib.get_close_matches(str(name), rows, n=3, cutoff=0.4) or list(rows)
        raise InputError("a preset is one of the table", got=name, fix=f"The nearest are {', '.join(map(repr, near))}")
    return rows[name]


def preset(name: str, model: nn.Module, inputs: Any = None, **options: Any) -> AppliedPreset:
    """Apply a published use of dropout to a model, in place.

    Args:
        name: one of ``dk.presets``, such as ``"transformer_base"``.
        model: the model; all or nothing is changed.
        inputs: a batch (a tensor, a tuple of arguments or a dict of named ones), for presets that look at residual branches.
        options: of the preset, such as ``size="small"``.

    Returns:
        What was put where, which can be printed, and undone by ``undo()``.

    Raises:
        InputError: for an unknown name, or a model that the preset does not fit; it says what it looked for.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> put = preset("srivastava_mlp", model)
        >>> print(put)
        srivastava_mlp (Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: Dropout: a simple way to prevent neural \
networks from overfitting, 2014)
        name                    kind     p    active
        0.before_model_dropout  dropout  0.2  yes
        1.after_dropout         dropout  0.5  yes
        companion: MaxNorm(c=3); attach it to the optimiser
        >>> put.undo()
    """
    return preset_named(name).apply(model, inputs, **options)
