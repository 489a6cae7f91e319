"""Instruments that compare modes: what is random in evaluation, and variances that training shifts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dropkit.study.instruments_subject import Subject


def evaluation_noise(subject: Subject, outputs: Tensor) -> float:
    """Return how much the outputs change from one evaluation to the next, as a share of their root mean square.

    Args:
        subject: the network.
        outputs: those of the first evaluation.
    """
    subject.model.eval()
    with torch.no_grad():
        again = subject.forward(slice(len(outputs)), 1)
    change, size = (float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in (again - outputs, outputs))
    return change / size if size > 0 else 0.0 if change == 0 else float("inf")


def variance_shift(subject: Subject) -> dict[str, dict[str, float]]:
    """Return ``variance_shift`` of a network with BatchNorm, nothing for others."""
    norms = {name: module for name, module in subject.model.named_modules() if isinstance(module, _BatchNorm)}
    if not norms:
        return {}
    train, evaluated = _variances(subject, norms, training=True), _variances(subject, norms, training=False)
    return {"variance_shift": {name: _median(train[name], evaluated[name]) for name in train if name in evaluated}}


def _variances(subject: Subject, norms: Mapping[str, nn.Module], *, training: bool) -> dict[str, Tensor]:
    """By BatchNorm the variance of each channel of its input over examples and positions.

    The norms themselves stay in evaluation, so that nothing but dropout differs between the modes.
    """
    found: dict[str, Tensor] = {}
    subject.model.train(training)
    with torch.no_grad(), ExitStack() as undo:
        for name, module in norms.items():
            def look(part: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                found.setdefault(name, args[0].double().transpose(0, 1).flatten(1).var(1))

            module.eval()
            undo.callback(module.register_forward_pre_hook(look).remove)
        subject.forward(slice(subject.in_evaluation), 0)
    return found


def _median(train: Tensor, evaluated: Tensor) -> float:
    moving = evaluated > 0
    return float((train[moving] / evaluated[moving]).median()) if bool(moving.any()) else float("nan")
