"""Find the functional calls of dropout in a model by running it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint

from dropkit.core.errors import FAILURES
from dropkit.surgery.calls import call_model, copy_inputs, does_not_run, undisturbed
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import unwrap
from dropkit.surgery.watch import Frame, Watch

_LIBRARIES = tuple(os.path.join(os.path.dirname(os.path.abspath(file)), "")
                   for file in (torch.__file__, os.path.dirname(__file__)))


@dataclass
class Found:
    """A functional call that drops.

    Args:
        path: the path of the module in whose forward it stands.
        module: that module.
        key: the function's name, with a number from the second call in a forward on.
        kind: a catalog name.
        p: the rate at which it ran.
        called: the rate that the code gave it.
        training: whether it may drop in training.
        always: whether it drops in evaluation too.
        where: file and line.
        recomputed: whether a checkpoint inside the module's forward runs it again in the backward pass.
    """

    path: str
    module: nn.Module
    key: str
    kind: str
    p: float
    called: float
    training: bool
    always: bool
    where: str
    recomputed: bool


def discover(model: nn.Module, inputs: Any) -> list[Found]:
    """The functional calls of dropout that a forward makes, outside modules that are sites themselves.

    The model runs once in training and once in evaluation mode, and is left as it was.

    Args:
        model: any module.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Raises:
        InputError: when the model raises.

    Example:
        >>> from torch.nn import functional as F
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return F.dropout(F.dropout(x, 0.2, self.training), 0.3)
        >>> [(call.path, call.key, call.p, call.always) for call in discover(nn.Sequential(Head()), torch.ones(3))]
        [('0', 'dropout', 0.2, False), ('0', 'dropout#1', 0.3, True)]
    """
    inner, found = unwrap(model), dict[tuple[nn.Module, str], Found]()

    def notice(frame: Frame, key: str, call: Call, p: float) -> bool:
        if key:
            known = found.setdefault((frame.module, key), _found(frame, key, call, p))
            if inner.training:
                known.training |= call.training
            else:
                known.always |= call.training and p != 0
        return False

    with undisturbed(model), Watch(model, notice):
        for mode in (True, False):
            inner.train(mode)
            try:
                call_model(inner, copy_inputs(inputs))
            except FAILURES as error:
                raise does_not_run(error, f", here in {'training' if mode else 'evaluation'}") from error
    return list(found.values())


def _found(frame: Frame, key: str, call: Call, p: float) -> Found:
    where, recomputed = _place()
    return Found(frame.path, frame.module, key, call.rule.kind, float(p), float(call.p), False, False, where, recomputed)


def _place() -> tuple[str, bool]:
    """File and line of the nearest frame outside torch and dropkit, and whether a checkpoint lies around it in the module."""
    place, recomputed = "", False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not Watch.run.__code__:
        file = frame.f_code.co_filename
        if not place and not file.startswith(_LIBRARIES):
            place = f"{os.path.basename(file)}:{frame.f_lineno}"
        recomputed |= file == checkpoint.__file__
        frame = frame.f_back
    return place, recomputed
