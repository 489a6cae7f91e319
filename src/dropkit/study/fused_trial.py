"""Whether runs can be trained side by side, and whether that pays: found out by trying."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dropkit.inference.run import vmap_reason
from dropkit.study.arms import build_arm
from dropkit.study.aside import as_in_a_worker
from dropkit.study.custom import fit_of
from dropkit.study.fused import FusedSession
from dropkit.study.fused_lanes import Unlike
from dropkit.study.prepare import Prepared
from dropkit.study.result import Arm
from dropkit.study.session import Session

LANES = 6
"""Most runs trained as one batch. More gain little: from here on the products of matrices take most of the time."""

_AGREE = 1e-3  # of the largest output; float error is a thousandth of that, another mask or rate a hundred times it
_GAIN = 0.9  # fused steps are to take at most this share of the time of single ones
_SECONDS, _ROUNDS = 0.5, (3, 10)  # about how long the timed trial takes, and fewest and most rounds


def groups(arms: Sequence[Arm], seeds: Sequence[int], lanes: int = LANES) -> list[list[tuple[int, int]]]:
    """Cut a study into groups of runs that are trained as one batch, whole seeds together where they fit.

    They depend on the arms and the list of seeds alone, because a run's last bits depend on the group that it is in.

    Args:
        arms: the study's.
        seeds: the study's.
        lanes: most runs a group, at least 1.

    Returns:
        Groups of (index of the arm, seed).

    Example:
        >>> groups(["none", "half"], [0, 1, 2], lanes=4)
        [[(0, 0), (1, 0), (0, 1), (1, 1)], [(0, 2), (1, 2)]]
    """
    seeds_each = max(1, lanes // len(arms))
    arms_each = math.ceil(len(arms) / math.ceil(len(arms) / lanes))
    return [[(arm, seed) for seed in seeds[at:at + seeds_each] for arm in range(first, min(first + arms_each, len(arms)))]
            for at in range(0, len(seeds), seeds_each) for first in range(0, len(arms), arms_each)]


def fusable(ready: Prepared, arms: Sequence[Arm], seeds: Sequence[int] = (0,), *, timed: bool = True) -> str | None:
    """Say why the runs of a study are better not fused, or None where they can be and gain by it.

    Two steps are taken both ways: losses and outputs have to agree, and then, where ``timed``, the batched step has to be
    faster. Nothing is left of the trial, random states included.

    Args:
        ready: the experiment.
        arms: whose runs are to be trained side by side; none changes the recipe.
        seeds: the study's.
        timed: whether to ask for a gain, too.

    Returns:
        The reason, as a clause, or None.
    """
    if ready.experiment.train is not None:
        return "the experiment brings its own training"
    if callable(ready.experiment.optimizer):
        return "the optimiser is a callable, which may treat parameters other than one by one"
    runs = [(arms[arm], seed) for arm, seed in groups(arms, seeds)[0]] if arms else []
    if not runs:
        return "every arm changes the recipe"
    if len(runs) == 1:
        return "there is nothing to train beside a single run"
    with as_in_a_worker():
        try:
            if fit_of(build_arm(ready.experiment, ready.builder, runs[0][0], seed=0)) is not None:
                return "Lightning trains the model"
            trial = _Trial(ready, runs)
            return trial.difference() or (trial.loss_of_time() if timed else None)
        except Unlike as error:
            return str(error)
        except Exception as error:
            return vmap_reason(error)


class _Trial:
    """The same runs, single and fused."""

    def __init__(self, ready: Prepared, runs: Sequence[tuple[Arm, int]]) -> None:
        self._single = [Session(ready, arm, seed) for arm, seed in runs]
        self._fused = FusedSession(ready, runs)
        self._seeds = len({seed for _, seed in runs})
        self._rows = torch.arange(min(len(self._single[0].part.x_train), ready.experiment.batch_size))
        for session in self._single:
            session.model.train()

    def difference(self) -> str | None:
        """Take two steps both ways, the second to see what the first has changed, and say what differs."""
        before = [[buffer.clone() for buffer in session.model.buffers()] for session in self._single]
        single = [self._step_single() for _ in range(2)]
        if any(not torch.equal(buffer, old) for session, kept in zip(self._single, before, strict=True)
               for buffer, old in zip(session.model.buffers(), kept, strict=True)):
            return "training changes a buffer of the model, such as the running statistics of BatchNorm"
        for expected in single:
            if not all(_alike(one, other) for one, other in zip(expected, self._step_fused(), strict=True)):
                return "a batched step does not give the numbers of single ones"
        return None

    def loss_of_time(self) -> str | None:
        """Time steps both ways in turn and say if the batched ones do not gain enough."""
        single: list[float] = []
        fused: list[float] = []
        end = time.perf_counter() + _SECONDS
        while len(single) < _ROUNDS[0] or (len(single) < _ROUNDS[1] and time.perf_counter() < end):
            single.append(_seconds(self._step_single))
            fused.append(_seconds(self._step_fused))
        if min(fused) <= _GAIN * min(single):
            return None
        return (f"a batched step of {len(self._single)} runs took {1e3 * min(fused):.1f} ms, "
                f"single steps {1e3 * min(single):.1f} ms in all")

    def _step_single(self) -> list[Tensor]:
        found = [session.run_step(session.part.x_train[self._rows], session.part.y_train[self._rows])
                 for session in self._single]
        return [torch.stack(values) for values in zip(*found, strict=True)]

    def _step_fused(self) -> list[Tensor]:
        return list(self._fused.run_step([self._rows] * self._seeds)[:2])


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or not bool(torch.isfinite(one).all()):
        return False
    return float((one - other).abs().max()) <= _AGREE * float(one.abs().max()) + 1e-6


def _seconds(call: Callable[[], object]) -> float:
    begin = time.process_time()  # of this process alone: what else the machine does counts for neither way
    call()
    return time.process_time() - begin
