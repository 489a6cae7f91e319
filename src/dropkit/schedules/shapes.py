"""Schedules by their shape."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.schedules.base import Schedule, between, check_pieces


@dataclass(eq=False, repr=False)
class constant(Schedule):
    """The same rate at every step.

    ``rate(t) = rate``.

    Args:
        rate: in [0, 1].

    Example:
        >>> constant(0.1)(1000)
        0.1
    """

    rate: float

    def _rate(self, step: int) -> float:
        return self.rate


@dataclass(eq=False, repr=False)
class linear(Schedule):
    """A straight line from one rate to another.

    ``rate(t) = start + (end - start) t / steps``, and ``end`` from t = steps on.

    Args:
        start: the rate at step 0, in [0, 1].
        end: the rate at step ``steps``, in [0, 1].
        steps: the length; the run's by default.

    Example:
        >>> [linear(0.0, 0.5, steps=4)(t) for t in range(6)]
        [0.0, 0.125, 0.25, 0.375, 0.5, 0.5]

    References:
        Ghiasi, Lin, Le: "DropBlock: a regularization method for convolutional networks", NeurIPS 2018, raises its rate so.
    """

    start: float
    end: float
    steps: int | None = None

    def _rate(self, step: int) -> float:
        return between(self.start, self.end, _share(step, self.steps))


@dataclass(eq=False, repr=False)
class cosine(Schedule):
    """Half a wave from one rate to another, flat at both.

    ``rate(t) = end + (start - end) (1 + cos(pi t / steps)) / 2``, and ``end`` from t = steps on.

    Args:
        start: the rate at step 0, in [0, 1].
        end: the rate at step ``steps``, in [0, 1].
        steps: the length; the run's by default.

    Example:
        >>> [round(cosine(0.5, 0.1, steps=4)(t), 3) for t in range(5)]
        [0.5, 0.441, 0.3, 0.159, 0.1]
    """

    start: float
    end: float
    steps: int | None = None

    def _rate(self, step: int) -> float:
        share = _share(step, self.steps)
        # sin^2 is (1 - cos) / 2 without its cancellation; beyond the end it would come down again
        return between(self.start, self.end, math.sin(math.pi / 2 * share) ** 2 if share < 1.0 else 1.0)


@dataclass(eq=False, repr=False)
class exponential(Schedule):
    """From one rate towards another, fast at first.

    ``rate(t) = end + (start - end) exp(-gamma t)``. It comes as close to ``end`` as you like and has no last step.

    Args:
        start: the rate at step 0, in [0, 1].
        end: the rate that it approaches, in [0, 1].
        gamma: the speed a step, above 0; ``10 / steps`` by default, which leaves e^-10 of the way at the run's end.
        steps: the run's length, where ``gamma`` is to follow from it.

    Raises:
        InputError: for values out of range, or both ``gamma`` and ``steps``.

    Example:
        >>> round(exponential(0.5, 0.1, gamma=0.01)(100), 4) == round(0.1 + 0.4 / math.e, 4)
        True
    """

    start: float
    end: float
    gamma: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("gamma", check_gamma(self.gamma, self.steps))

    @property
    def is_open(self) -> bool:
        """Whether the run's length is still to be given."""
        return self.gamma is None and self.steps is None

    def _rate(self, step: int) -> float:
        return between(self.start, self.end, approach(step, self.gamma, self.steps))


@dataclass(eq=False, repr=False)
class step(Schedule):
    """Stairs of equal length and height, from one rate to another.

    ``rate(t) = start + (end - start) i / (stages - 1)`` in stage ``i = floor(t stages / steps)``; the last stage lasts, as
    in progressive learning. For stairs of your own see `piecewise`.

    Args:
        start: the rate of the first stage, in [0, 1].
        end: the rate of the last stage, in [0, 1].
        stages: how many there are, at least 2. Default: 4.
        steps: the length of all stages together; the run's by default.

    Example:
        >>> [step(0.0, 0.3, stages=2, steps=4)(t) for t in range(5)]
        [0.0, 0.0, 0.3, 0.3, 0.3]

    References:
        Tan, Le: "EfficientNetV2: smaller models and faster training", ICML 2021, algorithm 1.
    """

    start: float
    end: float
    stages: int = 4
    steps: int | None = None

    def _rate(self, step: int) -> float:
        last = self.stages - 1
        return between(self.start, self.end, min(step * self.stages // (self.steps or 1), last) / last)


@dataclass(eq=False, repr=False)
class piecewise(Schedule):
    """Constant rates, one after the other.

    ``rate(t) = rates[i]``, where i is the number of entries of ``at`` that are at most t.

    Args:
        rates: each in [0, 1].
        at: the steps at which the next rate begins, rising, at least 1; one fewer than rates.

    Example:
        >>> [piecewise([0.1, 0.2, 0.3], [2, 4])(t) for t in range(6)]
        [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    """

    rates: Sequence[float]
    at: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pieces(self.rates, self.at, "rates")

    def _rate(self, step: int) -> float:
        return self.rates[bisect_right(self.at, step)]


@dataclass(eq=False, repr=False)
class cyclic(Schedule):
    """A triangle that repeats: up from the lower rate and down again, for ever.

    ``rate(t) = low + (high - low) (1 - |2 u - 1|)`` with ``u = (t mod period) / period``.

    Args:
        low: the rate at the beginning of a period, in [0, 1].
        high: the rate in its middle, in [low, 1].
        period: the length of a period, at least 2; the highest rate is met where it is even.

    Raises:
        InputError: for values out of range, or a ``high`` below ``low``.

    Example:
        >>> [cyclic(0.0, 0.5, period=4)(t) for t in range(6)]
        [0.0, 0.25, 0.5, 0.25, 0.0, 0.25]
    """

    low: float
    high: float
    period: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.high < self.low:
            raise InputError("high is at least low", got=self, fix="Swap them; a period begins with the lower rate")

    def _rate(self, step: int) -> float:
        phase = step % self.period
        return between(self.low, self.high, 2 * min(phase, self.period - phase) / self.period)


def check_gamma(gamma: Any, steps: int | None) -> float | None:
    """The speed of an exponential schedule.

    Args:
        gamma: a number above 0, or None.
        steps: the run's length, which decides the speed in its place.

    Raises:
        InputError: for another number, or both.

    Example:
        >>> check_gamma(1, None)
        1.0
    """
    if gamma is None:
        return None
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < math.inf:
        raise InputError("gamma is a speed a step, a number above 0", got=gamma, fix="Pass a float such as 0.001")
    if steps is not None:
        raise InputError("an exponential schedule has gamma or steps", got=phrase(f"gamma={gamma}, steps={steps}"),
                         fix="Leave one out; with steps alone gamma is 10 / steps")
    return float(gamma)


def approach(step: int, gamma: float | None, steps: int | None) -> float:
    """How much of the way an exponential schedule has done: ``1 - exp(-gamma t)``.

    Args:
        step: t.
        gamma: the speed; ``10 / steps`` by default.
        steps: the run's length.

    Example:
        >>> approach(0, 0.1, None)
        0.0
    """
    return -math.expm1(-(10 * step / (steps or 1) if gamma is None else gamma * step))


def _share(step: int, steps: int | None) -> float:
    return step / (steps or 1)  # an open schedule is refused before
