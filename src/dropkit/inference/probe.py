"""Find the functional calls of dropout that a model makes in training, and which of them it makes in evaluation too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from dropkit.core.notices import notify
from dropkit.inference.batches import rows_in
from dropkit.inference.plain import is_plain
from dropkit.inference.strangers import strangers
from dropkit.surgery.calls import call_model, copy_inputs, does_not_run, undisturbed
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import walk
from dropkit.surgery.watch import Frame, Notice, Watch


@dataclass
class Probed:
    """A functional call that drops in training.

    Args:
        path: of the module in whose forward it stands.
        module: that module.
        key: the function's name, with a number from the second call in a forward on.
        kind: a catalog name.
        p: the rate at which it runs in training.
        in_evaluation: whether it is made in evaluation too, be it without dropout.
    """

    path: str
    module: nn.Module
    key: str
    kind: str
    p: float
    in_evaluation: bool = False


def probe(model: nn.Module, inputs: Any) -> list[Probed]:
    """The functional calls of dropout in a model's forward, outside modules that are sites themselves.

    Models whose code shows that they make none are not run (see `makes_no_calls`). Others run once in training mode, their
    batch normalisation excepted, and once in evaluation mode, on one example where the inputs show how to take one.

    Args:
        model: any module; put back afterwards.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Raises:
        InputError: when the model raises in evaluation mode.

    Example:
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         x = nn.functional.dropout(x, 0.2, self.training)
        ...         return nn.functional.dropout(x, 0.3) if self.training else x
        >>> [(call.key, call.p, call.in_evaluation) for call in probe(Head(), torch.ones(3))]
        [('dropout', 0.2, True), ('dropout#1', 0.3, False)]
    """
    if is_plain(model):
        return []
    found = _Found()
    few = _one_example(inputs)
    error = _run(model, True, found.in_training, few, inputs)
    if error is not None:
        notify("the model raises in training mode, so that calls of dropout which it makes in training only are not found "
               f"({type(error).__name__}: {error})")
    elif not found.calls:
        return []
    found.complete = error is None
    error = _run(model, False, found.in_evaluation, few, inputs)
    if error is not None:
        raise does_not_run(error) from error
    return list(found.calls.values())


def unknown_in(model: nn.Module, inputs: Any) -> dict[str, nn.Module]:
    """Modules that draw random numbers in training, of kinds that dropkit does not know; see `strangers`.

    Args:
        model: any module; put back afterwards. One of torch's and dropkit's modules alone is not run.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Example:
        >>> unknown_in(nn.Sequential(nn.Dropout(0.5)), torch.ones(2))
        {}
    """
    if is_plain(model):
        return {}
    few = _one_example(inputs)
    return strangers(model, inputs if few is None else few)


class _Found:
    """Calls that were seen; `complete` once all that training makes have been."""

    def __init__(self) -> None:
        self.calls: dict[tuple[nn.Module, str], Probed] = {}
        self.complete = False

    def in_training(self, frame: Frame, key: str, call: Call, p: float) -> bool:
        if key and call.training:
            self._known(frame, key, call, p)
        return False

    def in_evaluation(self, frame: Frame, key: str, call: Call, p: float) -> bool:
        if key and not self.complete and p != 0:
            self._known(frame, key, call, p)
        if (frame.module, key) in self.calls:
            self.calls[frame.module, key].in_evaluation = True
        return False

    def _known(self, frame: Frame, key: str, call: Call, p: float) -> None:
        self.calls.setdefault((frame.module, key), Probed(frame.path, frame.module, key, call.rule.kind, float(p)))


def _run(model: nn.Module, training: bool, notice: Notice, few: Any, inputs: Any) -> Exception | None:
    """Run a model on few examples, or on all where few do not do; the error of the latter."""
    for given in ([inputs] if few is None else [few, inputs]):
        with undisturbed(model), torch.no_grad():
            for _, module in walk(model):
                module.training = training and not isinstance(module, _NormBase)  # which refuse a single example
            try:
                with Watch(model, notice):
                    call_model(model, copy_inputs(given))
            except Exception as error:
                raised = error
            else:
                return None
    return raised


def _one_example(inputs: Any) -> Any:
    """The first example of a batch, or None where it cannot be told how many there are."""
    if (rows_in(inputs) or 0) < 2:
        return None
    if isinstance(inputs, Mapping):
        return {key: x[:1] if isinstance(x, Tensor) else x for key, x in inputs.items()}
    return inputs[:1] if isinstance(inputs, Tensor) else tuple(x[:1] if isinstance(x, Tensor) else x for x in inputs)
