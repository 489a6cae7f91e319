"""Train one arm with one seed and score it: a function of (experiment, arm, seed) and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dropkit.core.streams import keyed, stream_number
from dropkit.study.arms import build_arm
from dropkit.study.data import Partition
from dropkit.study.objectives import optimizer_of
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.result import Arm, Run, finite
from dropkit.study.scores import brier, ece, nll, reliability

Report = Callable[[int, float], None]  # epoch (from 1), training loss
_CHUNK = 4096  # examples a forward pass in evaluation: bounds memory, changes no number that is compared


@dataclass(frozen=True)
class _Score:
    loss: float
    metric: float
    outputs: Tensor  # in the targets' own unit


def train(ready: Prepared, arm: Arm, seed: int, report: Report | None = None) -> Run:
    """Train and score one run.

    Initial weights, split and data order depend on ``seed`` alone, so that arms are paired; dropout draws from masks keyed by
    (seed, step, site), so it never shifts the order of the data.

    Args:
        ready: the experiment.
        arm: the rates.
        seed: any whole number of at least 0.
        report: called after each epoch with its number and mean training loss.

    Returns:
        The run; ``status`` is ``"diverged"`` if a loss or score was not finite.
    """
    part = ready.part(seed)
    model = build_arm(ready.experiment, ready.builder, arm, seed=stream_number(f"weights:{seed}"))
    torch.manual_seed(stream_number(f"training:{seed}"))  # dropout that is not keyed starts alike in every arm
    optimizer = optimizer_of(ready.experiment, model)
    history: dict[str, list[float | None]] = {name: [] for name in (
        "train_loss", "train_metric", "train_eval_loss", "train_eval_metric", "val_loss", "val_metric")}
    order = torch.Generator().manual_seed(stream_number(f"order:{seed}"))
    step = 0
    for epoch in range(ready.experiment.epochs):
        loss, metric, step = _epoch(ready, model, optimizer, part, order, step, seed)
        known, held_out = _scores(ready, model, part)
        for name, value in zip(history, (loss, metric, known.loss, known.metric, held_out.loss, held_out.metric),
                               strict=True):
            history[name].append(finite(value))
        if report is not None:
            report(epoch + 1, loss)
        if not math.isfinite(loss):
            break
    return _record(ready, model, part, arm, seed, history)


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of ``n`` examples in random order, ``size`` at a time; a last batch of one is left out.

    Example:
        >>> [len(batch) for batch in batches(9, 4, torch.Generator().manual_seed(0))]
        [4, 4]
    """
    for batch in torch.split(torch.randperm(n, generator=generator), size):
        if len(batch) > 1 or size == 1 or n == 1:
            yield batch


def _epoch(ready: Prepared, model: nn.Module, optimizer: torch.optim.Optimizer, part: Partition, order: torch.Generator,
           step: int, seed: int) -> tuple[float, float, int]:
    model.train()
    masks = stream_number(f"masks:{seed}")
    losses, outputs, targets = [], [], []
    for batch in batches(len(part.x_train), ready.experiment.batch_size, order):
        x, y = part.x_train[batch], part.y_train[batch]
        with keyed(masks, step=step):
            out = outputs_of(model, x, y)
        loss = ready.loss(out, y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.detach() * len(batch))
        outputs.append(out.detach())
        targets.append(y)
        step += 1
    seen = sum(len(y) for y in targets)
    score = _metric(ready, torch.cat(outputs), torch.cat(targets), part)
    return float(torch.stack(losses).sum()) / seen, score, step


def _scores(ready: Prepared, model: nn.Module, part: Partition) -> tuple[_Score, _Score]:
    return _score(ready, model, part, part.x_train, part.y_train), _score(ready, model, part, part.x_val, part.y_val)


@torch.no_grad()
def _score(ready: Prepared, model: nn.Module, part: Partition, x: Tensor, y: Tensor) -> _Score:
    model.eval()
    outputs = torch.cat([outputs_of(model, piece, target)
                         for piece, target in zip(torch.split(x, _CHUNK), torch.split(y, _CHUNK), strict=True)])
    return _Score(float(ready.loss(outputs, y)), _metric(ready, outputs, y, part), part.unscale(outputs))


def _metric(ready: Prepared, outputs: Tensor, y: Tensor, part: Partition) -> float:
    return ready.metric(part.unscale(outputs), part.unscale(y))


def _record(ready: Prepared, model: nn.Module, part: Partition, arm: Arm, seed: int,
            history: dict[str, list[float | None]]) -> Run:
    test = _score(ready, model, part, part.x_test, part.y_test)
    last = {name: values[-1] for name, values in history.items()}
    whole = all(value is not None for value in last.values()) and math.isfinite(test.loss + test.metric)
    metric = test.metric if whole else _constant(ready, part)
    sign = 1.0 if ready.higher_is_better else -1.0
    known = last["train_eval_metric"]
    bins = reliability(test.outputs, part.y_test) if ready.data.task == "classification" else None
    return Run(
        arm=arm.name, seed=seed, status="finished" if whole else "diverged",
        **last, test_loss=finite(test.loss), test_metric=metric,
        gap=sign * (known - metric) if whole and known is not None else None,
        nll=finite(_nll(ready, model, part, test)), history=history, reliability=bins,
        brier=None if bins is None else finite(brier(test.outputs, part.y_test)),
        ece=None if bins is None else ece(bins))


def _nll(ready: Prepared, model: nn.Module, part: Partition, test: _Score) -> float:
    """Mean negative log-likelihood of the test targets: categorical, or Gaussian with the validation residuals' variance."""
    if ready.data.task == "classification":
        return nll(test.outputs, part.y_test)
    held_out = _score(ready, model, part, part.x_val, part.y_val)
    variance = (part.unscale(part.y_val).double() - held_out.outputs.double()).square().mean(0)
    return nll(test.outputs, part.unscale(part.y_test), variance) if bool((variance > 0).all()) else math.inf


def _constant(ready: Prepared, part: Partition) -> float:
    """Score on the test data of the best prediction without a model: the commonest class, or the mean target."""
    if ready.data.task == "classification":
        frequency = torch.bincount(part.y_train, minlength=max(ready.n_outputs, 2)).double()
        outputs = torch.log((frequency + 1) / (frequency + 1).sum()).float().expand(len(part.y_test), -1)
    else:
        outputs = part.y_train.mean(0).expand_as(part.y_test)
    return _metric(ready, outputs, part.y_test, part)
