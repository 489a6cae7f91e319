"""Models and inputs that a prediction is made of: what cannot be predicted is told before, or where it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dropkit.core.errors import DropkitError, InputError, phrase
from dropkit.inference.active import evaluated
from dropkit.inference.twin import twin_of
from dropkit.surgery.calls import call_model, copy_inputs, does_not_run, refuse_meta, unmoved
from dropkit.surgery.modules import walk
from dropkit.surgery.scripted import check_readable
from dropkit.surgery.watch import is_watched

_REJECTIONS = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a forward raises on inputs of another form than it takes."""


def check_acting(model: Any, caller: str) -> None:
    """Refuse a model whose dropout cannot be made to act.

    Args:
        model: any.
        caller: the name of the function that would make it act.

    Raises:
        InputError: for what is no module, scripted modules that drop, and a model inside ``dk.disabled``.

    Example:
        >>> check_acting(nn.Dropout(0.5), "mc_predict")
    """
    for _ in walk(model):  # refuses what is no module
        break
    check_readable(model, "acts in evaluation")
    check_enabled(model, caller)


def check_enabled(model: nn.Module, caller: str) -> None:
    """Refuse a model inside ``dk.disabled``, where nothing acts.

    Args:
        model: any module.
        caller: the name of the function that asks.

    Raises:
        InputError: inside.

    Example:
        >>> check_enabled(nn.Dropout(0.5), "freeze_check")
    """
    if is_watched(model):
        raise InputError("a model whose dropout is made to act is not disabled", got=phrase(f"{caller} inside dk.disabled"),
                         fix=f"Call {caller} outside the with block")


@contextmanager
def accepted(model: nn.Module, inputs: Any) -> Iterator[None]:
    """Tell a model that does not run on its inputs at all from one that raises for another reason, which keeps its error.

    It is run once more to find out, in evaluation and as a twin, only after something has raised inside the ``with``.

    Args:
        model: any module.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Raises:
        InputError: instead of what was raised, where the model does not run on the inputs, or has no values.

    Example:
        >>> try:
        ...     with accepted(nn.Linear(2, 2), torch.ones(3)):
        ...         nn.Linear(2, 2)(torch.ones(3))
        ... except InputError as error:
        ...     error.rule
        'a model runs on the inputs that it is given'
    """
    try:
        yield
    except (DropkitError, MemoryError, torch.OutOfMemoryError):  # short of memory is no matter of what was given
        raise
    except _REJECTIONS as error:
        refuse_meta(model, inputs)
        raised = _raised(model, inputs)
        if raised is None:
            raise
        raise does_not_run(raised) from error


def _raised(model: nn.Module, inputs: Any) -> Exception | None:
    twin = evaluated(twin_of(model)[0])
    try:
        with unmoved(model), torch.no_grad():
            call_model(twin, copy_inputs(inputs))
    except Exception as error:
        return error
    return None
