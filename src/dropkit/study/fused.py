"""Many small runs trained as one batched model: each run as `dropkit.study.training.train` would, to float tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dropkit.core.philox import derive_seed
from dropkit.core.seeds import seed_tensor
from dropkit.study.fused_lanes import Lanes
from dropkit.study.objectives import optimizer_of
from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm, Run
from dropkit.study.session import Session, batches
from dropkit.study.training import note, record

LaneReport = Callable[[int, int, float], None]  # index of the run, epoch (from 1), training loss


def train_fused(ready: Prepared, runs: Sequence[tuple[Arm, int]], report: LaneReport | None = None) -> list[Run]:
    """Train and score several runs at once.

    Each has the data split, order of the data, rates and masks that `dropkit.study.training.train` gives it, and ends in the
    same numbers to float tolerance.

    Args:
        ready: the experiment.
        runs: arm and seed of each.
        report: called after each epoch of each run with the run's index, the epoch's number and the mean training loss.

    Returns:
        The runs, in the order asked for.
    """
    fused = FusedSession(ready, runs)
    while fused.running:
        for lane, (loss, metric) in fused.run_epoch().items():
            session = fused.sessions[lane]
            note(session, loss, metric)
            if report is not None:
                report(lane, session.epoch, loss)
            if session.epoch >= ready.experiment.epochs or not math.isfinite(loss):
                fused.end(lane)
    return [record(ready, session.model, session.part, session.arm, session.seed, session.history, session.instruments)
            for session in fused.sessions]


class FusedSession:
    """Sessions that take their steps together.

    Args:
        ready: the experiment.
        runs: arm and seed of each.

    Raises:
        Unlike: they cannot.
    """

    def __init__(self, ready: Prepared, runs: Sequence[tuple[Arm, int]]) -> None:
        self.ready = ready
        self.sessions = [Session(ready, arm, seed) for arm, seed in runs]
        self._seeds = list(dict.fromkeys(seed for _, seed in runs))
        self._by_seed = [next(session for session in self.sessions if session.seed == seed) for seed in self._seeds]
        self._place = torch.tensor([self._seeds.index(session.seed) for session in self.sessions])
        self._size = len(self.sessions[0].part.x_train)
        self._data = self._share_data()
        self.lanes = Lanes([session.model for session in self.sessions])
        self.optimizer = optimizer_of(ready.experiment, nn.ParameterList(self.lanes.parameters.values()))
        self.running = set(range(len(self.sessions)))

    def _share_data(self) -> list[Tensor]:
        """Return the training data of all seeds in a row, features and targets; of it all runs' parts become views."""
        parts = [session.part for session in self._by_seed]
        data = [torch.cat([getattr(part, name) for part in parts]) for name in ("x_train", "y_train")]
        views = [replace(part, x_train=x, y_train=y) for part, x, y in
                 zip(parts, *(torch.split(values, self._size) for values in data), strict=True)]
        for session in self.sessions:
            session.part = views[self._seeds.index(session.seed)]
        return data

    def run_epoch(self) -> dict[int, tuple[float, float]]:
        """Train for one epoch and return mean loss and metric, both in training mode, of each run that goes on."""
        size = self.ready.experiment.batch_size
        orders = [list(batches(len(session.part.x_train), size, session.order)) for session in self.sessions]
        steps = [self.run_step([orders[self.sessions.index(session)][at] for session in self._by_seed])
                 for at in range(len(orders[0]))]
        weights = torch.tensor([len(batch) for batch in orders[0]])
        losses = (torch.stack([loss for loss, _, _ in steps], 1) * weights).sum(1) / weights.sum()
        outputs, targets = (torch.cat([step[which] for step in steps], 1) for which in (1, 2))
        for session in self.sessions:
            session.epoch += 1
        return {lane: (float(losses[lane]), self._metric(lane, outputs[lane], targets[lane])) for lane in sorted(self.running)}

    def run_step(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Take one step of every run on the batch of its seed; return losses, outputs and targets, a row a run."""
        rows = torch.stack([number * self._size + of_seed for number, of_seed in enumerate(batch)])[self._place]
        x, y = (values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:]) for values in self._data)
        loss, out = self.lanes.step(self._mask_seeds(), x, y, self.ready.loss, self.ready.loss_name)
        self.optimizer.step()
        for session in self.sessions:
            session.step += 1
        return loss, out, y

    def end(self, lane: int) -> None:
        """Take no more notice of a run; its network keeps its weights."""
        self.lanes.release(lane)
        self.running.discard(lane)

    def _mask_seeds(self) -> Tensor:
        return torch.stack([seed_tensor(derive_seed(session.masks, session.step, 0)) for session in self._by_seed])[self._place]

    def _metric(self, lane: int, outputs: Tensor, targets: Tensor) -> float:
        part = self.sessions[lane].part
        return self.ready.metric(part.unscale(outputs), part.unscale(targets))
