"""Train one arm with one seed and score it: a function of (experiment, arm, seed) and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.study import instruments
from dropkit.study.checkpoint import Keeper
from dropkit.study.custom import fit_of, own_run
from dropkit.study.ensemble import begin
from dropkit.study.misfits import told
from dropkit.study.partition import Partition
from dropkit.study.positions import IGNORED, counted
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.result import Arm, Run, finite
from dropkit.study.scores import brier, ece, nll, reliability
from dropkit.study.session import HISTORY, Course, Session

Report = Callable[[int, float], None]  # epoch (from 1), training loss
_CHUNK = 512  # examples a forward pass in evaluation: few enough for a small network's activations to stay in the cache


@dataclass(frozen=True)
class _Score:
    loss: float
    metric: float
    outputs: Tensor  # in the targets' own unit


def train(ready: Prepared, arm: Arm, seed: int, report: Report | None = None, keeper: Keeper | None = None) -> Run:
    """Train and score one run.

    Args:
        ready: the experiment.
        arm: rates and recipe.
        seed: any whole number of at least 0.
        report: called after each epoch with its number and mean training loss.
        keeper: where the run goes on from its last checkpoint, and leaves others.

    Returns:
        The run; ``status`` is ``"diverged"`` if a loss or score was not finite.
    """
    if ready.experiment.train is not None:
        return own_run(ready, arm, seed)
    with told(arm):
        return _trained(ready, arm, seed, report, keeper)


def _trained(ready: Prepared, arm: Arm, seed: int, report: Report | None, keeper: Keeper | None) -> Run:
    session = begin(ready, arm, seed) if keeper is None else keeper.begin(ready, arm, seed)
    fit = fit_of(session.model)
    if fit is not None and isinstance(session, Session):
        fit(session, lambda loss, metric: _tell(session, loss, metric, report))
    while fit is None and not session.over:
        loss, metric = session.run_epoch(keeper)
        _tell(session, loss, metric, report)
        if not math.isfinite(loss):
            break
        if keeper is not None:
            keeper(session)
    best = session.settle()
    return record(ready, session.model, session.part, arm, seed, session.history, session.instruments, best)


def _tell(session: Course, loss: float, metric: float, report: Report | None) -> None:
    note(session, loss, metric)
    if report is not None:
        report(session.epoch, loss)


def note(session: Course, loss: float, metric: float) -> None:
    """Write an epoch's scores, and what the instruments show where it is one of theirs, into the session."""
    ready, model, part = session.ready, session.model, session.part
    known = _score(ready, model, part, part.x_train, part.y_train)
    held_out = _score(ready, model, part, part.x_val, part.y_val)
    for name, value in zip(HISTORY, (loss, metric, known.loss, known.metric, held_out.loss, held_out.metric), strict=True):
        session.history[name].append(finite(value))
    session.consider(held_out.loss)
    if ready.instrumented and session.epoch in instruments.epochs_to_measure(session.epochs):
        instruments.append(session.instruments, session.epoch,
                           instruments.measure(ready, model, part, session.seed, session.step))


@torch.no_grad()
def _score(ready: Prepared, model: nn.Module, part: Partition, x: Tensor, y: Tensor) -> _Score:
    model.eval()
    outputs = torch.cat([outputs_of(model, piece, target)
                         for piece, target in zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)])
    return _Score(float(ready.loss(outputs, y)), _metric(ready, outputs, y, part), part.unscale(outputs))


def _metric(ready: Prepared, outputs: Tensor, y: Tensor, part: Partition) -> float:
    return ready.metric(part.unscale(outputs), part.unscale(y))


def record(ready: Prepared, model: nn.Module, part: Partition, arm: Arm, seed: int,
           history: dict[str, list[float | None]], measured: dict[str, Any], epoch: int | None = None) -> Run:
    """Score a trained model on the test data and return the run; its weights are of ``epoch``, by default the last."""
    test = _score(ready, model, part, part.x_test, part.y_test)
    last = {name: values[(epoch or len(values)) - 1] for name, values in history.items()}
    whole = all(value is not None for value in last.values()) and math.isfinite(test.loss + test.metric)
    metric = test.metric if whole else _constant(ready, part)
    sign = 1.0 if ready.higher_is_better else -1.0
    known = last["train_eval_metric"]
    labelled = None if ready.data.task == "regression" else counted(test.outputs, part.y_test)
    bins = None if labelled is None else reliability(*labelled)
    return Run(
        arm=arm.name, seed=seed, status="finished" if whole else "diverged",
        **last, test_loss=finite(test.loss), test_metric=metric,
        gap=sign * (known - metric) if whole and known is not None else None,
        nll=finite(_nll(ready, model, part, test)), history=history,
        instruments=instruments.conclude(measured, history), reliability=bins,
        brier=None if labelled is None else finite(brier(*labelled)),
        ece=None if bins is None else ece(bins))


def _nll(ready: Prepared, model: nn.Module, part: Partition, test: _Score) -> float:
    """Mean negative log-likelihood of the test targets: categorical, or Gaussian with the validation residuals' variance."""
    if ready.data.task != "regression":
        return nll(*counted(test.outputs, part.y_test))
    held_out = _score(ready, model, part, part.x_val, part.y_val)
    variance = (part.unscale(part.y_val).double() - held_out.outputs.double()).square().mean(0)
    return nll(test.outputs, part.unscale(part.y_test), variance) if bool((variance > 0).all()) else math.inf


def _constant(ready: Prepared, part: Partition) -> float:
    """Score on the test data of the best prediction without a model: the commonest class, or the mean target."""
    if ready.data.task != "regression":
        labels = part.y_train[part.y_train != IGNORED]
        frequency = torch.bincount(labels, minlength=max(ready.n_outputs, 2)).double()
        outputs = torch.log((frequency + 1) / (frequency + 1).sum()).float().expand(*part.y_test.shape, -1)
    else:
        outputs = part.y_train.mean(0).expand_as(part.y_test)
    return _metric(ready, outputs, part.y_test, part)
