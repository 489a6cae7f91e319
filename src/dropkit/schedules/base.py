"""What schedules share: a call that gives the rate, the length of the run, checks of their values, and a text."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Self

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate


# Importing stays quick with what frozen=True and eq=True would make for every schedule anew standing below once.
@dataclass(eq=False, repr=False)
class Schedule:
    """A rate as a pure function of the step: ``schedule(step)``.

    Schedules are values: immutable, equal where they are of one kind with equal settings, and their text is what
    `dropkit.schedules.parse` reads. A schedule that stretches over the run takes ``steps=``, the run's length. Left out,
    the schedule is *open*, and the length comes from whoever knows it: ``schedule(step, steps)``, ``schedule.over(steps)``,
    ``RateScheduler(..., steps=)``, or ``dropkit schedule --steps``. A length that was given is never replaced.

    A step is a whole number, of whatever the run counts: steps of the optimiser or epochs. The run begins with step 0. What
    stretches over ``steps`` reaches its end *at* step ``steps``, when so many have been done, and keeps it from there on;
    steps below 0 count as 0.

    Example:
        >>> from dropkit.schedules import linear
        >>> schedule = linear(0.0, 0.5)
        >>> schedule(5, 10), schedule.over(10)(5), linear(0.0, 0.5, steps=10)(99)
        (0.25, 0.25, 0.5)
        >>> schedule.over(10)
        linear(0.0, 0.5, steps=10)
    """

    def __call__(self, step: int, steps: int | None = None) -> float:
        """Give the rate of a step.

        Args:
            step: counted from 0.
            steps: the run's length, for a schedule that is open.

        Raises:
            InputError: for a step that is no whole number, or an open schedule without ``steps``.
        """
        schedule = self if steps is None else self.over(steps)
        if schedule.is_open:
            raise InputError("a schedule that stretches over the run knows its length", got=self,
                             fix="Pass steps=, the number of steps of the run, here or where the schedule is made")
        return schedule._rate(max(check_step(step), 0))

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _CHECKS:
                self._set(field.name, _CHECKS[field.name](getattr(self, field.name), field.name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) or all(name != field.name for field in fields(self)):
            raise AttributeError(f"schedules do not change: make another one with the {name} you want")
        self._set(name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError("schedules do not change")

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        shown = []
        for field in fields(self):
            value = getattr(self, field.name)
            text = repr(list(value)) if isinstance(value, tuple) else repr(value)
            if field.default is MISSING:
                shown.append(text)
            elif value != field.default:
                shown.append(f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def is_open(self) -> bool:
        """Whether the run's length is still to be given."""
        return getattr(self, "steps", 0) is None

    def over(self, steps: int) -> Self:
        """The schedule over a run of so many steps; itself where it knows its length.

        Args:
            steps: of the run, at least 1.

        Raises:
            InputError: for another number of steps.
        """
        count = check_count(steps, "steps")
        return self._close(count) if self.is_open else self

    def _close(self, steps: int) -> Self:
        return replace(self, **{"steps": steps})

    def _rate(self, step: int) -> float:
        raise NotImplementedError

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def between(start: float, end: float, weight: float) -> float:
    """A rate on the way from one to another; exact at both and never outside them.

    Args:
        start: the rate at weight 0.
        end: the rate at weights from 1 on.
        weight: how much of the way is done.

    Example:
        >>> between(0.1, 0.7, 0.0), between(0.1, 0.7, 0.5), between(0.1, 0.7, 1.0)
        (0.1, 0.4, 0.7)
    """
    if weight >= 1.0:
        return end
    return min(max(start + (end - start) * weight, min(start, end)), max(start, end))


def check_count(value: Any, name: str, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Args:
        value: an int, or what counts as one, such as numpy's.
        name: for the message.
        least: the smallest one allowed.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_count(3, "steps")
        3
    """
    number = _integer(value)
    if number is None or number < least:
        raise InputError(f"{name} is a whole number, at least {least}", got=value, fix="Pass an int such as 1000")
    return number


def check_step(value: Any) -> int:
    """A step of a run as an int.

    Args:
        value: an int, or what counts as one.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_step(-1)
        -1
    """
    number = _integer(value)
    if number is None:
        raise InputError("a step is a whole number", got=value, fix="Pass an int, counted from 0")
    return number


def check_steps_in_order(value: Any, name: str) -> tuple[int, ...]:
    """Steps at which something changes, each at least 1 and after the one before.

    Args:
        value: a list of ints.
        name: for the message.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_steps_in_order([10, 20], "at")
        (10, 20)
    """
    numbers = tuple(check_count(item, f"an entry of {name}") for item in _items(value, name))
    if any(after <= before for before, after in pairwise(numbers)):
        raise InputError(f"the steps in {name} rise", got=list(numbers), fix="Sort them and leave out repetitions")
    return numbers


def check_pieces(pieces: Sequence[Any], at: Sequence[int], name: str) -> None:
    """Check that there is a step for each change from one piece to the next.

    Args:
        pieces: what follows on each other.
        at: the steps of the changes.
        name: of the pieces, for the message.

    Raises:
        InputError: otherwise.
    """
    if len(pieces) != len(at) + 1:
        raise InputError(f"there is one more in {name} than steps in at, where one gives way to the next",
                         got=phrase(f"{len(pieces)} in {name} and {len(at)} in at"),
                         fix=f"Pass as many steps as there are changes, such as {name} of two with at=[100]")


def as_schedule(value: Any, name: str = "schedule") -> Schedule:
    """A schedule as it is; a number as a constant one.

    Args:
        value: a schedule or a rate.
        name: for the message.

    Raises:
        InputError: for anything else.

    Example:
        >>> as_schedule(0.1)
        constant(0.1)
    """
    from dropkit.schedules.shapes import constant  # shapes are made of what stands here

    if isinstance(value, Schedule):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return constant(value)
    raise InputError(f"{name} is one of dropkit.schedules, or a rate", got=value,
                     fix="Make one, such as dropkit.schedules.linear(0.0, 0.5)")


def as_schedules(value: Any, name: str) -> tuple[Schedule, ...]:
    """Several schedules.

    Args:
        value: a list of schedules and rates, not empty.
        name: for the message.

    Raises:
        InputError: for anything else.

    Example:
        >>> as_schedules([0.1], "schedules")
        (constant(0.1),)
    """
    return tuple(as_schedule(item, f"an entry of {name}") for item in _items(value, name))


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # the last two: tensors with dimensions
        return None


def _items(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} is a list", got=value, fix="Put it in brackets, such as [100]")
    return list(value)


def _check_rates(value: Any, name: str) -> tuple[float, ...]:
    return tuple(_plain_rate(item, f"an entry of {name}") for item in _items(value, name))


def _plain_rate(value: Any, name: str) -> float:
    return check_rate(value, name) + 0.0  # never -0.0


def _optional_count(value: Any, name: str) -> int | None:
    return None if value is None else check_count(value, name)


# A field's name says what it may be, in every schedule.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(("rate", "start", "end", "low", "high"), _plain_rate),
    **dict.fromkeys(("cutoff", "length", "blocks"), check_count),
    **dict.fromkeys(("stages", "period"), lambda value, name: check_count(value, name, 2)),
    **dict.fromkeys(("ramp", "block"), lambda value, name: check_count(value, name, 0)),
    "steps": _optional_count, "rates": _check_rates, "at": check_steps_in_order,
    "schedule": as_schedule, "schedules": as_schedules,
}
