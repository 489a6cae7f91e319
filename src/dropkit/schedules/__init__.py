"""Rates as pure functions of the step: ``dk.schedules.linear(0.0, 0.5)``.

Example:
    >>> import dropkit as dk
    >>> dk.schedules.warm_up(dk.schedules.cosine(0.5, 0.1), 100)(50, steps=1000)
    0.25
"""

from dropkit.schedules.base import Schedule
from dropkit.schedules.combined import at_depth, join, warm_up
from dropkit.schedules.previews import Preview, preview
from dropkit.schedules.published import annealed, curriculum, early, late
from dropkit.schedules.shapes import constant, cosine, cyclic, exponential, linear, piecewise, step
from dropkit.schedules.text import parse

__all__ = [
    "Preview", "Schedule", "annealed", "at_depth", "constant", "cosine", "curriculum", "cyclic", "early", "exponential",
    "join", "late", "linear", "parse", "piecewise", "preview", "step", "warm_up",
]
