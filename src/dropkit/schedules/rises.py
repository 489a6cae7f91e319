"""Rates that jump up late in training: models adapt to the noise they saw."""

from __future__ import annotations

MAX_RISE = 0.1
"""The largest rise in one step that passes without a warning, late in training."""


class RateJumpWarning(UserWarning):
    """A rate jumped up late in training; a gradual rise is kinder."""


def is_late_jump(before: float, after: float, step: int, steps: int | None, most: float = MAX_RISE) -> bool:
    """Tell whether a rate rises abruptly, late in training.

    Late is after the first half of the run, where its length is known; otherwise everything after step 0.

    Args:
        before: the rate of the step before.
        after: the rate of this step.
        step: this one, counted from 0.
        steps: the run's length, or None.
        most: the rise that is allowed. Default: 0.1.

    Example:
        >>> is_late_jump(0.0, 0.5, step=90, steps=100), is_late_jump(0.0, 0.5, step=10, steps=100)
        (True, False)
    """
    late = step > 0 if steps is None else 2 * step > steps
    return late and after - before > most + 1e-12  # 0.3 - 0.2 is no more than 0.1
