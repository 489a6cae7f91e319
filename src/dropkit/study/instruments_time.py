"""How much of a training step dropout takes: times, which do not repeat and so are no part of a run's numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

from torch import Tensor, nn

from dropkit.core.streams import keyed
from dropkit.study.arms import build_arm
from dropkit.study.aside import as_in_a_worker
from dropkit.study.misfits import told
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.study.result import Arm

_PAIRS = 20  # steps timed with and without, in turn
_FEWEST = 3
_SECONDS = 1.0  # after which no further pair is begun, once the fewest are done
_BATCH = 64  # examples of a step, at most


def time_in_dropout(ready: Prepared, arm: Arm) -> str:
    """Return a sentence on how much of a forward and backward pass dropout takes, on one thread, in training mode.

    The arm's network is timed against the same one with every rate 0, step by step in turn; medians of CPU time are compared.

    Args:
        ready: the experiment.
        arm: with a rate above 0.
    """
    with as_in_a_worker(), told(arm):
        models = [build_arm(ready.experiment, ready.builder, each, seed=0).train() for each in (arm, _without(arm))]
        part, size = ready.part(0), min(_BATCH, ready.experiment.batch_size)
        x, y = part.x_train[:size], part.y_train[:size]
        times: list[list[float]] = [[], []]
        begin = time.perf_counter()
        while len(times[0]) <= _PAIRS and (len(times[0]) <= _FEWEST or time.perf_counter() - begin < _SECONDS):
            for model, spent in zip(models, times, strict=True):
                spent.append(_step(ready, model, x, y))
    dropping, plain = (median(spent[1:]) for spent in times)  # the first pass sets up what the others find ready
    share = max(0.0, 1 - plain / dropping)
    return (f"Time in dropout: {100 * share:.0f} % of a forward and backward pass of arm {arm.name!r} "
            f"({1000 * dropping:.3g} ms with its rates, {1000 * plain:.3g} ms with none; CPU time).")


def _without(arm: Arm) -> Arm:
    return replace(arm, sites=[replace(site, p=0.0) for site in arm.sites])


def _step(ready: Prepared, model: nn.Module, x: Tensor, y: Tensor) -> float:
    begin = time.process_time()  # not the clock: other processes, such as a study's workers, would count
    with keyed(0):
        outputs = outputs_of(model, x, y)
    ready.loss(outputs, y).backward()  # type: ignore[no-untyped-call]
    return time.process_time() - begin
