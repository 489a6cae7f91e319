"""Losses, metrics and optimisers by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from dropkit.study.experiment import METRICS, Experiment
from dropkit.study.optimizers import SGD, Adam, AdamW, Functional, RMSprop
from dropkit.study.positions import IGNORED, counted, rows
from dropkit.study.recipe import Recipe
from dropkit.study.scores import accuracy, nll, rmse
from dropkit.variants.max_norm import MaxNorm

_OWN = "the training function's"
_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy, "mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}


def _mae(outputs: Tensor, targets: Tensor) -> float:
    return float((outputs.double() - targets.double()).abs().mean())


def _perplexity(outputs: Tensor, targets: Tensor) -> float:
    return math.exp(min(nll(outputs, targets), 700.0))  # beyond that a float overflows


_METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": accuracy, "nll": nll, "perplexity": _perplexity, "rmse": rmse, "mae": _mae}
_OPTIMIZERS: dict[str, type[Functional]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD, "rmsprop": RMSprop}


def _position_by_position(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(*rows(outputs, targets), ignore_index=IGNORED)


def loss_of(experiment: Experiment, task: str) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the loss's name and function; cross entropy or squared error by default.

    The cross entropy of sequences is the mean over the positions that have a label.
    """
    if experiment.train is not None:
        return _OWN, F.cross_entropy  # never called
    chosen = experiment.loss or ("mse" if task == "regression" else "cross_entropy")
    if not isinstance(chosen, str):
        return _name(chosen), chosen
    return chosen, _position_by_position if task == "sequence" else _LOSSES[chosen]


def metric_of(experiment: Experiment, task: str) -> tuple[str, Callable[[Tensor, Tensor], float], bool]:
    """Return the metric's name, function, and whether higher is better; accuracy or RMSE by default.

    Of sequences all positions that have a label count alike.
    """
    if experiment.train is not None and isinstance(experiment.metric, str):
        higher = experiment.higher_is_better
        return experiment.metric, accuracy, METRICS[experiment.metric] if higher is None else higher  # never called
    chosen = experiment.metric or ("rmse" if task == "regression" else "accuracy")
    if isinstance(chosen, str):
        metric = _METRICS[chosen]
        of_positions = lambda outputs, targets: metric(*counted(outputs, targets))  # noqa: E731
        return chosen, of_positions if task == "sequence" else metric, METRICS[chosen]
    return _name(chosen), lambda outputs, targets: float(chosen(outputs, targets)), bool(experiment.higher_is_better)


def optimizer_of(experiment: Experiment, model: nn.Module, recipe: Recipe | None = None) -> Functional | Optimizer:
    """Return a fresh optimiser over the model's parameters.

    Args:
        experiment: gives its kind, rate and decay.
        model: the network.
        recipe: an arm's changes: a weight decay takes the place of the experiment's, a max-norm acts after every step.
    """
    changed = recipe or Recipe()
    decay = experiment.weight_decay if changed.weight_decay is None else changed.weight_decay
    bound = None if changed.max_norm is None else MaxNorm(model, changed.max_norm)
    chosen = experiment.optimizer
    options: dict[str, Any] = {"lr": experiment.lr, "weight_decay": decay}
    if isinstance(chosen, str) and all(parameter.is_floating_point() for parameter in model.parameters()):
        return _OPTIMIZERS[chosen](model.parameters(), after_step=bound, **options)
    optimizer = chosen(model.parameters()) if callable(chosen) else _of_torch(chosen, model.parameters(), **options)
    if bound is not None:
        bound.attach(optimizer)
    return optimizer


def _of_torch(chosen: str, parameters: Iterator[nn.Parameter], **options: Any) -> Optimizer:
    """Return PyTorch's own, which alone knows complex numbers."""
    if chosen == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **options)
    kinds: dict[str, type[Optimizer]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
                                         "rmsprop": torch.optim.RMSprop}
    return kinds[chosen](parameters, **options)


def optimizer_name(experiment: Experiment) -> str:
    """Return the optimiser in words, with its rate and decay where dropkit sets them."""
    if experiment.train is not None:
        return _OWN
    if callable(experiment.optimizer):
        return _name(experiment.optimizer)
    decay = f", weight_decay={experiment.weight_decay:g}" if experiment.weight_decay else ""
    return f"{experiment.optimizer}(lr={experiment.lr:g}{decay})"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
