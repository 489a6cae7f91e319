"""A run while it trains: all that changes from step to step, which is what a checkpoint has to hold."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dropkit.core.streams import keyed, stream_number
from dropkit.study.arms import build_arm
from dropkit.study.augmentation import augmented
from dropkit.study.budget import steps_an_epoch
from dropkit.study.objectives import optimizer_of
from dropkit.study.optimizers import Functional
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.remedies import MovingRates, objective_of
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

    def run_epoch(self, after_step: Callable[[Course], None] | None = None) -> tuple[float, float]:
        """Train for one epoch, or what is left of it, and return its mean loss and its metric, both in training mode.

        Args:
            after_step: called after each step, with the whole run.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on, as tensors, plain numbers, and lists and dictionaries of them."""
        return {"epoch": self.epoch, "step": self.step, "history": self.history, "instruments": self.instruments,
                "kept": self.kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, in this process or another.

        Args:
            state: of a run of the same experiment, arm and seed.
        """
        self.epoch, self.step, self.kept = state["epoch"], state["step"], state["kept"]
        self.history, self.instruments = state["history"], state["instruments"]


class Session(Course):
    """One network on its way through training: model, optimiser, order of the data, and what was recorded so far.

    Initial weights, split and data order depend on ``seed`` alone, so that arms are paired; dropout draws from masks keyed by
    (seed, step, site) and input noise from (seed, step), so they never shift the order of the data. The random states of
    torch, Python and NumPy start alike in every arm.

    `state` and `restore` carry a run over to another process, which goes on to the same bits. They know the model's parameters
    and buffers and the optimiser's ``state_dict``; a model that counts its calls in a plain attribute has to make it a buffer
    or return it from ``get_extra_state``.

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
        _seed_everything(stream_number(f"training:{self.tag}"))  # dropout that is not keyed starts alike in every arm
        self.order = torch.Generator().manual_seed(stream_number(f"order:{self.tag}"))
        self.masks = stream_number(f"masks:{self.tag}")
        self.objective = objective_of(ready.loss, arm.recipe.label_smoothing)
        steps = self.epochs * steps_an_epoch(len(self.part.x_train), ready.experiment.batch_size)
        self.rates = MovingRates(self.model, arm, steps) if arm.recipe.schedule else None
        self.losses: list[Tensor] = []  # of this epoch, a value a step, times the batch's size
        self.outputs: list[Tensor] = []
        self.drawn = self.order.get_state()  # from which this epoch's order is drawn

    @functools.cached_property
    def optimizer(self) -> Functional | Optimizer:
        """The optimiser; made when it is first asked for, since runs that are trained as one batch need none each."""
        return optimizer_of(self.ready.experiment, self.model, self.arm.recipe)

    def run_epoch(self, after_step: Callable[[Course], None] | None = None) -> tuple[float, float]:
        """Train for one epoch, or what is left of it, and return its mean loss and its metric, both in training mode.

        Args:
            after_step: called after each step, with this run.
        """
        self.model.train()
        self.drawn = self.order.get_state()
        targets = []
        for place, batch in enumerate(batches(len(self.part.x_train), self.ready.experiment.batch_size, self.order)):
            y = self.part.y_train[batch]
            targets.append(y)
            if place < len(self.losses):  # done before the checkpoint that this session was restored from
                continue
            loss, out = self.run_step(self.part.x_train[batch], y)
            self.losses.append(loss * len(batch))
            self.outputs.append(out)
            if after_step is not None:
                after_step(self)
        return self._close_epoch(torch.cat(targets))

    def _close_epoch(self, targets: Tensor) -> tuple[float, float]:
        loss = float(torch.stack(self.losses).sum()) / len(targets)
        outputs = torch.cat(self.outputs)
        self.losses, self.outputs = [], []
        self.epoch += 1
        return loss, self.ready.metric(self.part.unscale(outputs), self.part.unscale(targets))

    def run_step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of the optimiser on a batch and return loss and outputs, both without a graph."""
        self.optimizer.zero_grad()
        if self.rates is not None:
            self.rates.set(self.step)
        x = augmented(x, self.arm.recipe, self.ready.experiment.augment, self.tag, self.step)
        with keyed(self.masks, step=self.step):
            out = outputs_of(self.model, x, y)
        minimised = self.objective(out, y)
        minimised.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        loss = minimised if self.objective is self.ready.loss else self.ready.loss(out.detach(), y)
        return loss.detach(), out.detach()

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the run depends on."""
        return {
            **super().state(), "model": self.model.state_dict(), "buffers": _unsaved_buffers(self.model),
            "optimizer": self.optimizer.state_dict(), "order": self.drawn if self.losses else self.order.get_state(),
            "random": _random_state(), "losses": torch.stack(self.losses) if self.losses else None,
            "outputs": torch.cat(self.outputs) if self.losses else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken."""
        super().restore(state)
        self.model.load_state_dict(state["model"])
        buffers = dict(self.model.named_buffers())
        for name, values in state["buffers"].items():
            buffers[name].copy_(values)
        self.optimizer.load_state_dict(state["optimizer"])
        self.order.set_state(state["order"])
        self.losses = [] if state["losses"] is None else list(state["losses"].unbind())
        self.outputs = [] if state["outputs"] is None else [state["outputs"]]
        _set_random_state(state["random"])


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the indices of ``n`` examples in random order, ``size`` at a time; a last batch of one is left out.

    Example:
        >>> [len(batch) for batch in batches(9, 4, torch.Generator().manual_seed(0))]
        [4, 4]
    """
    for batch in torch.split(torch.randperm(n, generator=generator), size):
        if len(batch) > 1 or size == 1 or n == 1:
            yield batch


def _seed_everything(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number % 2**32)


def _random_state() -> dict[str, Any]:
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {"torch": torch.get_rng_state(), "python": random.getstate(), "numpy": numpy}


def _set_random_state(state: dict[str, Any]) -> None:
    numpy = state["numpy"]
    key = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": key}})
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])


def _unsaved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that the model leaves out of its ``state_dict``."""
    saved = model.state_dict()
    return {name: values for name, values in model.named_buffers() if name not in saved}
