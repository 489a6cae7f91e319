"""Modules that draw random numbers in training, of kinds that dropkit does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.draws import Draws
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import kind_of, walk
from dropkit.surgery.watch import Frame, Watch


def strangers(model: nn.Module, inputs: Any) -> dict[str, nn.Module]:
    """Modules whose forward draws from torch's generator in training and not in evaluation, by their paths.

    Known sites and functional calls of dropout do not count; they are off while the model runs. So stochastic depth of another
    library is found, and so is noise that is no dropout, such as that of a variational autoencoder.

    Args:
        model: any module; put back afterwards.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Returns:
        The modules; none for a model that raises in training.

    Example:
        >>> class Noisy(nn.Module):
        ...     def forward(self, x):
        ...         return x + torch.randn_like(x) if self.training else x
        >>> list(strangers(nn.Sequential(nn.Dropout(0.5), Noisy()), torch.ones(2, 3)))
        ['1']
    """
    drawing = _drawing(model, inputs, True)
    if not drawing:
        return {}
    always = _drawing(model, inputs, False)
    return {path: module for path, module in drawing.items() if path not in always}


def _drawing(model: nn.Module, inputs: Any, training: bool) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    watch = Watch(model, _left_out)

    def tell(operator: Any, result: Any) -> None:
        frame = watch.innermost()
        if frame is not None and kind_of(frame.module) is None:
            found[frame.path] = frame.module

    with undisturbed(model), torch.no_grad():
        for _, module in walk(model):
            module.training = training and not isinstance(module, _NormBase) and kind_of(module) is None
        try:
            with watch, Draws(tell):
                call_model(model, copy_inputs(inputs))
        except Exception:  # the model as it is used, in evaluation, tells its errors elsewhere
            return found if training else {}
    return found


def _left_out(frame: Frame, key: str, call: Call, p: float) -> bool:
    return True
