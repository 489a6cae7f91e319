"""What happens inside a tuning's worker process: train one setting with one seed, out of reach of the test data."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study import worker
from dropkit.study.partition import Partition
from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm
from dropkit.study.training import train
from dropkit.study.worker import Failure

_ready: list[Blind] = []  # filled once a process by `initialise`


@dataclass(frozen=True)
class Outcome:
    """The validation metric of one run, whether it diverged, and the seconds it took."""

    value: float
    diverged: bool
    seconds: float


class Blind(Prepared):
    """An experiment whose test part is its validation part, so that whatever is done with it leaves the test data unseen."""

    instrumented = False  # a tuning looks at scores alone

    def part(self, seed: int) -> Partition:
        """Return the data split by ``seed``, the validation part in the place of the test part."""
        part = super().part(seed)
        return replace(part, x_test=part.x_val, y_test=part.y_val)


def blind(ready: Prepared) -> Blind:
    """Return ``ready`` without its test part."""
    return Blind(**{item.name: getattr(ready, item.name) for item in fields(Prepared)})


def evaluate(ready: Blind, rates: Mapping[str, float], seed: int) -> Outcome:
    """Train ``ready`` with a rate for each site and one seed, and score it on the validation part.

    A run that diverged scores as the best constant prediction does there, as in a study.
    """
    start = time.perf_counter()
    sites = [replace(site, p=rates[site.name]) for site in ready.arms[-1].sites]
    run = train(ready, Arm("trial", "", sites), seed)
    if ready.experiment.train is None:
        value = run.test_metric
    elif run.val_metric is not None:
        value = run.val_metric
    else:
        raise InputError("a tuning needs validation metrics", got=phrase("a training function that returns no 'val'"),
                         fix='Return {"test": ..., "val": ...}')
    return Outcome(value, run.status == "diverged", time.perf_counter() - start)


def initialise(payload: bytes, log: str) -> None:
    """Make the process ready, as `dropkit.study.worker.initialise` does."""
    worker.initialise(log)
    _ready[:] = [blind(worker.read(payload))]


def execute(rates: Mapping[str, float], seed: int) -> Outcome | Failure:
    """Evaluate in a worker process; return what the run raised instead of raising it."""
    try:
        return evaluate(_ready[0], rates, seed)
    except FAILURES as error:
        return Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
