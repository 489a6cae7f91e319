"""A run while it trains: all that changes from step to step, which is what a checkpoint has to hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.streams import keyed, stream_number
from dropkit.study.arms import build_arm
from dropkit.study.budget import steps_an_epoch
from dropkit.study.objectives import optimizer_of
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.remedies import MovingRates, noisy, objective_of
from dropkit.study.result import Arm

HISTORY = ("train_loss", "train_metric", "train_eval_loss", "train_eval_metric", "val_loss", "val_metric")


class Course:
    """What every run has: its data, how far it is, what was recorded, and the best epoch where the arm stops early.

    Args:
        ready: the experiment.
        arm: rates and recipe.
        seed: any whole number of at least 0.
    """

    model: nn.Module

    def __init__(self, ready: Prepared, arm: Arm, seed: int) -> None:
        self.ready, self.arm, self.seed = ready, arm, seed
        self.part = ready.part(seed)
        self.epochs = ready.experiment.epochs // arm.recipe.members
        self.epoch, self.step = 0, 0
        self.history: dict[str, list[float | None]] = {name: [] for name in HISTORY}
        self.instruments: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}  # what a recipe remembers: tensors, numbers, and lists and dictionaries of them

    @property
    def best(self) -> dict[str, Any]:
        """Epoch, loss and weights of the best epoch so far; empty unless the arm stops early."""
        found: dict[str, Any] = self.kept.get("best", {})
        return found

    @property
    def over(self) -> bool:
        """Whether no epoch is left: all were run, or the validation loss has not improved for as many as the arm waits."""
        patience = self.arm.recipe.early_stopping
        return self.epoch >= self.epochs or bool(patience and self.best and self.epoch - self.best["epoch"] >= patience)

    def consider(self, loss: float) -> None:
        """Keep the weights where the arm stops early and this epoch's validation loss is the lowest so far."""
        if self.arm.recipe.early_stopping and math.isfinite(loss) and loss < self.best.get("loss", math.inf):
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.kept["best"] = {"epoch": self.epoch, "loss": loss, "weights": weights}

    def settle(self) -> int:
        """Go back to the best epoch's weights where the arm stops early, and return the epoch that the weights are of.

        A run that diverged keeps its last weights: it is an outcome.
        """
        if not self.best or self.history["train_loss"][-1] is None:
            return self.epoch
        self.model.load_state_dict(self.best["weights"])
        return int(self.best["epoch"])

    def run_epoch(self) -> tuple[float, float]:
        """Train for one epoch and return its mean loss and its metric, both in training mode."""
        raise NotImplementedError


class Session(Course):
    """One network on its way through training: model, optimiser, order of the data, and what was recorded so far.

    Initial weights, split and data order depend on ``seed`` alone, so that arms are paired; dropout draws from masks keyed by
    (seed, step, site) and input noise from (seed, step), so they never shift the order of the data.

    Args:
        ready: the experiment.
        arm: rates and recipe.
        seed: any whole number of at least 0.
        member: which network of an ensemble; the first one starts like a single network.
    """

    def __init__(self, ready: Prepared, arm: Arm, seed: int, member: int = 0) -> None:
        super().__init__(ready, arm, seed)
        self.tag = f"{seed}:{member}" if member else f"{seed}"
        self.model = build_arm(ready.experiment, ready.builder, arm, seed=stream_number(f"weights:{self.tag}"))
        torch.manual_seed(stream_number(f"training:{self.tag}"))  # dropout that is not keyed starts alike in every arm
        self.optimizer = optimizer_of(ready.experiment, self.model, arm.recipe)
        self.order = torch.Generator().manual_seed(stream_number(f"order:{self.tag}"))
        self.masks = stream_number(f"masks:{self.tag}")
        self.objective = objective_of(ready.loss, arm.recipe.label_smoothing)
        steps = self.epochs * steps_an_epoch(len(self.part.x_train), ready.experiment.batch_size)
        self.rates = MovingRates(self.model, arm, steps) if arm.recipe.schedule else None

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
        if self.rates is not None:
            self.rates.set(self.step)
        x = noisy(x, self.arm.recipe.noise, self.tag, self.step)
        with keyed(self.masks, step=self.step):
            out = outputs_of(self.model, x, y)
        self.optimizer.zero_grad()
        minimised = self.objective(out, y)
        minimised.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        loss = minimised if self.objective is self.ready.loss else self.ready.loss(out.detach(), y)
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
