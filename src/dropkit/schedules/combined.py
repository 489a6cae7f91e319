"""Schedules made of others: one after another, warmed up, or scaled with depth."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from dropkit.core.errors import InputError
from dropkit.schedules.base import Schedule, as_schedule, between, check_pieces
from dropkit.variants.drop_path import depth_rates


@dataclass(eq=False, repr=False)
class join(Schedule):
    """Schedules one after the other, each from its own step 0.

    ``rate(t) = schedules[i](t - at[i - 1])``, where i is the number of entries of ``at`` that are at most t, and
    ``at[-1]`` counts as 0. An open schedule stretches over its piece, an open last one over what is left of the run.

    Args:
        schedules: at least one; a rate counts as a constant schedule.
        at: the steps at which the next one begins, rising, at least 1; one fewer than schedules.

    Example:
        >>> from dropkit.schedules import linear
        >>> join([linear(0.0, 0.5), 0.5, linear(0.5, 0.0)], [100, 200])
        join([linear(0.0, 0.5, steps=100), constant(0.5), linear(0.5, 0.0)], [100, 200])
        >>> [_(t, 300) for t in (0, 50, 100, 250, 300)]
        [0.0, 0.25, 0.5, 0.25, 0.0]
    """

    schedules: Sequence[Schedule | float]
    at: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pieces(self.schedules, self.at, "schedules")
        lengths = [end - start for start, end in zip((0, *self.at), self.at, strict=False)]
        inner = [piece.over(length) for piece, length in zip(self._pieces[:-1], lengths, strict=True)]
        self._set("schedules", (*inner, self._pieces[-1]))

    @property
    def is_open(self) -> bool:
        """Whether the run's length is still to be given."""
        return self._pieces[-1].is_open

    @property
    def _pieces(self) -> tuple[Schedule, ...]:
        return tuple(as_schedule(piece) for piece in self.schedules)

    def _close(self, steps: int) -> Self:
        *inner, last = self._pieces
        return replace(self, schedules=(*inner, last.over(_rest(steps, self.at[-1] if self.at else 0))))

    def _rate(self, step: int) -> float:
        piece = bisect_right(self.at, step)
        return as_schedule(self.schedules[piece])(step - (self.at[piece - 1] if piece else 0))


@dataclass(eq=False, repr=False)
class warm_up(Schedule):
    """A straight line from 0 up to where a schedule begins, then the schedule.

    ``rate(t) = schedule(0) t / length`` for t < length, then ``schedule(t - length)``. An open schedule stretches over
    what is left of the run.

    Args:
        schedule: what follows; a rate counts as a constant schedule.
        length: the number of steps of the warm-up, at least 1.

    Example:
        >>> [warm_up(0.2, 4)(t) for t in range(6)]
        [0.0, 0.05, 0.1, 0.15000000000000002, 0.2, 0.2]
    """

    schedule: Schedule | float
    length: int

    @property
    def is_open(self) -> bool:
        """Whether the run's length is still to be given."""
        return as_schedule(self.schedule).is_open

    def _close(self, steps: int) -> Self:
        return replace(self, schedule=as_schedule(self.schedule).over(_rest(steps, self.length)))

    def _rate(self, step: int) -> float:
        schedule = as_schedule(self.schedule)
        return schedule(step - self.length) if step >= self.length else between(0.0, schedule(0), step / self.length)


@dataclass(eq=False, repr=False)
class at_depth(Schedule):
    """A schedule as one block of a deep network has it: scheduled drop path.

    ``rate(t) = schedule(t) (block + 1) / blocks`` by the rule of the paper on stochastic depth; other rules as in
    `dropkit.depth_rates`. ``RateScheduler(..., depth="paper")`` does this for all blocks of a model.

    Args:
        schedule: of the last block; a rate counts as a constant schedule.
        block: which one, counted from 0.
        blocks: how many there are.
        rule: ``"paper"``, ``"linspace"`` or ``"zero_based"``.

    Raises:
        InputError: for a block that is not there, or another rule.

    Example:
        >>> from dropkit.schedules import linear
        >>> [at_depth(linear(0.0, 0.2, steps=10), block, blocks=4)(10) for block in range(4)]
        [0.05, 0.1, 0.15000000000000002, 0.2]

    References:
        Larsson, Maire, Shakhnarovich: "FractalNet: ultra-deep neural networks without residuals", ICLR 2017, drops paths.
        Zoph, Vasudevan, Shlens, Le: "Learning transferable architectures for scalable image recognition", CVPR 2018,
        raises their rate over the run. Huang et al.: "Deep networks with stochastic depth", ECCV 2016, over depth.
    """

    schedule: Schedule | float
    block: int
    blocks: int
    rule: str = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        depth_rates(0.0, self.blocks, self.rule)
        if self.block >= self.blocks:
            raise InputError("block counts from 0 to blocks - 1", got=self.block, fix=f"There are {self.blocks} blocks")

    @property
    def is_open(self) -> bool:
        """Whether the run's length is still to be given."""
        return as_schedule(self.schedule).is_open

    def _close(self, steps: int) -> Self:
        return replace(self, schedule=as_schedule(self.schedule).over(steps))

    def _rate(self, step: int) -> float:
        return depth_rates(as_schedule(self.schedule)(step), self.blocks, self.rule)[self.block]


def _rest(steps: int, done: int) -> Any:
    return max(steps - done, 1)  # a run that ends before never gets there
