"""A run while it trains: all that changes from step to step, which is what a checkpoint has to hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dropkit.core.streams import keyed, stream_number
from dropkit.study.arms import build_arm
from dropkit.study.objectives import optimizer_of
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.result import Arm

HISTORY = ("train_loss", "train_metric", "train_eval_loss", "train_eval_metric", "val_loss", "val_metric")


class Session:
    """One network on its way through training: model, optimiser, order of the data, and what was recorded so far.

    Initial weights, split and data order depend on ``seed`` alone, so that arms are paired; dropout draws from masks keyed by
    (seed, step, site), so it never shifts the order of the data.

    Args:
        ready: the experiment.
        arm: rates and recipe.
        seed: any whole number of at least 0.
    """

    def __init__(self, ready: Prepared, arm: Arm, seed: int) -> None:
        self.ready, self.arm, self.seed = ready, arm, seed
        self.part = ready.part(seed)
        self.model = build_arm(ready.experiment, ready.builder, arm, seed=stream_number(f"weights:{seed}"))
        torch.manual_seed(stream_number(f"training:{seed}"))  # dropout that is not keyed starts alike in every arm
        self.optimizer = optimizer_of(ready.experiment, self.model)
        self.order = torch.Generator().manual_seed(stream_number(f"order:{seed}"))
        self.masks = stream_number(f"masks:{seed}")
        self.epoch, self.step = 0, 0
        self.history: dict[str, list[float | None]] = {name: [] for name in HISTORY}
        self.instruments: dict[str, Any] = {}

    def run_epoch(self) -> tuple[float, float]:
        """Train for one epoch and return its mean loss and its metric, both in training mode."""
        self.model.train()
        losses, outputs, targets = [], [], []
        for batch in batches(len(self.part.x_train), self.ready.experiment.batch_size, self.order):
            x, y = self.part.x_train[batch], self.part.y_train[batch]
            loss, out = self.run_step(x, y)
            losses.append(loss * len(batch))
            outputs.append(out)
            targets.append(y)
        self.epoch += 1
        seen = sum(len(y) for y in targets)
        score = self.ready.metric(self.part.unscale(torch.cat(outputs)), self.part.unscale(torch.cat(targets)))
        return float(torch.stack(losses).sum()) / seen, score

    def run_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of the optimiser on a batch and return loss and outputs, both without a graph."""
        with keyed(self.masks, step=self.step):
            out = outputs_of(self.model, x, y)
        loss = self.ready.loss(out, y)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return loss.detach(), out.detach()


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of ``n`` examples in random order, ``size`` at a time; a last batch of one is left out.

    Example:
        >>> [len(batch) for batch in batches(9, 4, torch.Generator().manual_seed(0))]
        [4, 4]
    """
    for batch in torch.split(torch.randperm(n, generator=generator), size):
        if len(batch) > 1 or size == 1 or n == 1:
            yield batch
