"""Schedules under the names of the papers that brought them."""

from __future__ import annotations

from dataclasses import dataclass

from dropkit.core.errors import InputError
from dropkit.schedules.base import Schedule, between
from dropkit.schedules.shapes import approach, check_gamma


@dataclass(eq=False, repr=False)
class curriculum(Schedule):
    """Curriculum dropout: the rate rises from 0, fast at first.

    ``rate(t) = 1 - keep(t)`` with ``keep(t) = (1 - k) exp(-gamma t) + k`` and ``k = 1 - rate``; that is
    ``rate (1 - exp(-gamma t))``. It comes as close to ``rate`` as you like and has no last step.

    Args:
        rate: that it approaches, in [0, 1].
        gamma: the speed a step, above 0; ``10 / steps`` by default, as in the paper.
        steps: the run's length, where ``gamma`` is to follow from it.

    Raises:
        InputError: for values out of range, or both ``gamma`` and ``steps``.

    Example:
        >>> [round(curriculum(0.5, steps=100)(t), 3) for t in (0, 10, 100)]
        [0.0, 0.316, 0.5]

    References:
        Morerio, Cavazza, Volpi, Vidal, Murino: "Curriculum dropout", ICCV 2017.
    """

    rate: float
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
        return between(0.0, self.rate, approach(step, self.gamma, self.steps))


@dataclass(eq=False, repr=False)
class annealed(Schedule):
    """Annealed dropout: the rate falls to 0 along a straight line.

    ``rate(t) = rate max(0, 1 - t / steps)``.

    Args:
        rate: at step 0, in [0, 1].
        steps: until it is 0; the run's length by default.

    Example:
        >>> [annealed(0.5, steps=4)(t) for t in range(6)]
        [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]

    References:
        Rennie, Goel, Thomas: "Annealed dropout training of deep networks", IEEE SLT 2014.
    """

    rate: float
    steps: int | None = None

    def _rate(self, step: int) -> float:
        return between(self.rate, 0.0, step / (self.steps or 1))


@dataclass(eq=False, repr=False)
class early(Schedule):
    """Early dropout: on until a cutoff, for networks that under-fit.

    ``rate(t) = rate (1 - t / cutoff)`` for t < cutoff in the linear form and ``rate`` in the constant one; 0 from the cutoff
    on. The paper's code has both.

    Args:
        rate: at step 0, in [0, 1].
        cutoff: the first step without dropout, at least 1.
        form: ``"linear"`` or ``"constant"``.

    Raises:
        InputError: for values out of range, or another form.

    Example:
        >>> [early(0.2, cutoff=2)(t) for t in range(4)], [early(0.2, cutoff=2, form="constant")(t) for t in range(4)]
        ([0.2, 0.1, 0.0, 0.0], [0.2, 0.2, 0.0, 0.0])

    References:
        Liu, Xu, Jin, Shen, Darrell: "Dropout reduces underfitting", ICML 2023.
    """

    rate: float
    cutoff: int
    form: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form not in ("linear", "constant"):
            raise InputError('form is "linear" or "constant"', got=self.form,
                             fix='"linear" falls to 0 at the cutoff, "constant" holds the rate until then')

    def _rate(self, step: int) -> float:
        if self.form == "linear":
            return between(self.rate, 0.0, step / self.cutoff)
        return self.rate if step < self.cutoff else 0.0


@dataclass(eq=False, repr=False)
class late(Schedule):
    """Late dropout: off until a cutoff, for networks that over-fit.

    ``rate(t) = 0`` for t < cutoff and ``rate`` from there on; with a ramp ``rate min(1, (t - cutoff) / ramp)``.

    Args:
        rate: after the cutoff, in [0, 1].
        cutoff: the first step with dropout, at least 1.
        ramp: steps over which the rate rises from 0 after the cutoff. Default: 0, a jump, as in the paper.

    Example:
        >>> [late(0.2, cutoff=2)(t) for t in range(4)], [late(0.2, cutoff=2, ramp=2)(t) for t in range(5)]
        ([0.0, 0.0, 0.2, 0.2], [0.0, 0.0, 0.0, 0.1, 0.2])

    References:
        Liu, Xu, Jin, Shen, Darrell: "Dropout reduces underfitting", ICML 2023.
    """

    rate: float
    cutoff: int
    ramp: int = 0

    def _rate(self, step: int) -> float:
        done = step - self.cutoff
        return 0.0 if done < 0 else between(0.0, self.rate, done / self.ramp if self.ramp else 1.0)
