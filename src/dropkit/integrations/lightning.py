"""Runs of a study whose model is a LightningModule: trained by Lightning's Trainer, scored as every run is."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import MissingExtraError
from dropkit.core.streams import keyed
from dropkit.study.prepare import outputs_of
from dropkit.study.session import Session, batches

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.model_helpers import is_overridden
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "lightning", "lightning") from error

_CHUNK = 4096  # examples a forward pass outside training
_FOLLOWING = 1 << 63  # steps from here on are those of the passes that only measure, which draw masks of their own


class Batches:
    """The training or validation part as a loader: pairs (x, y), in the session's order where ``shuffled``.

    Args:
        session: the run.
        x: features, (N, ...).
        y: targets, (N, ...).
        shuffled: draw the order from the session's generator, the same in every arm.
    """

    def __init__(self, session: Session, x: Tensor, y: Tensor, *, shuffled: bool) -> None:
        self.x, self.y = x, y
        self._session, self._shuffled = session, shuffled
        self._size = session.ready.experiment.batch_size

    def __len__(self) -> int:
        whole, rest = divmod(len(self.x), self._size)
        left_out = rest == 1 and len(self.x) > 1 and self._shuffled  # as in `dropkit.study.session.batches`
        return whole + (0 if left_out or not rest else 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = batches(len(self.x), self._size, self._session.order) if self._shuffled else torch.split(
            torch.arange(len(self.x)), self._size)
        for batch in order:
            yield self.x[batch], self.y[batch]


def fit(session: Session, after_epoch: Callable[[float, float], None]) -> None:
    """Train the session's model, a LightningModule, by Lightning's Trainer for the experiment's epochs.

    The module's ``training_step`` and ``configure_optimizers`` decide how; it is given batches ``(x, y)`` on the CPU. Nothing
    is logged or saved and no progress bar is drawn. Its ``validation_step``, if it has one, gets the validation part.

    Args:
        session: the run; its masks, its order of the data and its random state are the same in every arm.
        after_epoch: called after each epoch with the experiment's loss and metric on the training part in training mode.
    """
    model, part = session.model, session.part
    if not isinstance(model, LightningModule):
        raise TypeError(f"{type(model).__name__} is no LightningModule of the package lightning")
    known = Batches(session, part.x_train, part.y_train, shuffled=True)
    held_out = Batches(session, part.x_val, part.y_val, shuffled=False) if is_overridden("validation_step", model) else None
    with warnings.catch_warnings(), _quiet(), keyed(session.masks):
        # Advice about loaders and logging, which are dropkit's here and not the user's to change.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        _trainer(session, after_epoch).fit(model, known, held_out)


class _AfterEpoch(Callback):
    """Counts epochs and steps, and has the run scored after each epoch."""

    def __init__(self, session: Session, after_epoch: Callable[[float, float], None]) -> None:
        self._session, self._after_epoch = session, after_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score the network, and stop where its loss is no number."""
        session = self._session
        session.epoch, session.step = trainer.current_epoch + 1, trainer.global_step
        loss, metric = _in_training_mode(session)
        self._after_epoch(loss, metric)
        pl_module.train()
        if not math.isfinite(loss):
            trainer.should_stop = True


def _trainer(session: Session, after_epoch: Callable[[float, float], None]) -> Trainer:
    return Trainer(max_epochs=session.ready.experiment.epochs, accelerator="cpu", devices=1, logger=False,
                   enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
                   callbacks=[_AfterEpoch(session, after_epoch)])


@torch.no_grad()
def _in_training_mode(session: Session) -> tuple[float, float]:
    """Return loss and metric on the training part with dropout active; running statistics stay as they were."""
    model, part, ready = session.model, session.part, session.ready
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    with keyed(session.masks, step=_FOLLOWING + session.epoch):
        pieces = zip(torch.split(part.x_train, _CHUNK), torch.split(part.y_train, _CHUNK), strict=True)
        outputs = torch.cat([outputs_of(model, x, y) for x, y in pieces])
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    score = ready.metric(part.unscale(outputs), part.unscale(part.y_train))
    return float(ready.loss(outputs, part.y_train)), score


class _quiet:
    """Keep Lightning's lines about devices off standard error, where dropkit's progress is."""

    def __enter__(self) -> None:
        self._loggers: list[Any] = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
