"""Numbers as a reader sees them: means over seeds, digits, units, signs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from dropkit.study.effects import Effect
from dropkit.study.result import Contrast, Summary

ABSENT = "–"
MINUS = "−"


def known(values: Iterable[float | None]) -> list[float]:
    """Return the values that are numbers: what is None or not finite is left out.

    Example:
        >>> known([1.0, None, float("nan")])
        [1.0]
    """
    return [value for value in values if value is not None and math.isfinite(value)]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values, or None when there is none.

    Example:
        >>> mean([1.0, None, 2.0])
        1.5
    """
    present = known(values)
    return math.fsum(present) / len(present) if present else None


def deviation(values: Iterable[float | None]) -> float | None:
    """Return the sample standard deviation (n - 1) of the known values, or None under two of them.

    Example:
        >>> deviation([1.0, 3.0, None])
        1.4142135623730951
    """
    present = known(values)
    return statistics.stdev(present) if len(present) > 1 else None


def number(value: float | None, digits: int = 4) -> str:
    """Write a value with ``digits`` significant digits, without an exponent where it is of ordinary size.

    Example:
        >>> number(0.123456), number(1234567.0), number(-2e-7), number(None)
        ('0.1235', '1,234,567', '−2.000e-07', '–')
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    size = abs(value)
    if size != 0 and not 1e-4 <= size < 1e9:
        return f"{value:.{digits - 1}e}".replace("-", MINUS, 1) if value < 0 else f"{value:.{digits - 1}e}"
    whole = math.floor(math.log10(size)) + 1 if size else 1
    return f"{value:,.{max(0, digits - whole)}f}".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """Write a p-value: three decimals, or a bound where it is smaller than that.

    Example:
        >>> p_value(0.0312), p_value(0.00002), p_value(None)
        ('0.031', '< 0.001', '–')
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Write a time in the two units that matter.

    Example:
        >>> duration(4.21), duration(75.0), duration(7322.0)
        ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


@dataclass(frozen=True)
class Scale:
    """How the study's metric is shown: shares as percent and percentage points, all else as it is.

    Args:
        metric: the metric's name.
        share: whether values are shares in [0, 1], shown times 100.
        higher_is_better: the metric's direction.
        places: decimals of a metric that is no share; None for as many as four significant digits take.

    Example:
        >>> scale = Scale("accuracy", share=True, higher_is_better=True)
        >>> scale.value(0.9753), scale.difference(-0.004), scale.interval(-0.001, 0.002)
        ('97.53 %', '−0.40 pp', '−0.10 to +0.20 pp')
        >>> Scale("rmse", share=False, higher_is_better=False, places=2).difference(0.25)
        '+0.25'
    """

    metric: str
    share: bool
    higher_is_better: bool
    places: int | None = None

    @classmethod
    def of(cls, summary: Summary) -> Scale:
        """Return the scale of a study's metric, with decimals that show a tenth of the margin's leading digit."""
        places = None
        if math.isfinite(summary.margin) and 1e-6 < summary.margin < 1e6:
            places = max(0, math.ceil(-math.log10(summary.margin)) + 1)
        return cls(summary.metric, summary.unit == "points", summary.higher_is_better, places)

    @property
    def factor(self) -> float:
        """What a value is multiplied by where it is drawn."""
        return 100.0 if self.share else 1.0

    @property
    def direction(self) -> str:
        """Say which way is better."""
        return "higher is better" if self.higher_is_better else "lower is better"

    def drawn(self, value: float | None) -> float | None:
        """Return ``value`` as it is drawn on an axis, with digits that no eye could miss."""
        if value is None or not math.isfinite(value):
            return None
        return float(f"{value * self.factor:.6g}")

    def axis(self, name: str) -> str:
        """Title an axis of values."""
        return f"{name} (%)" if self.share else name

    def value(self, value: float | None) -> str:
        """Write a value of the metric."""
        if value is None or not math.isfinite(value):
            return ABSENT
        return f"{value * 100:.2f} %".replace("-", MINUS) if self.share else self._plain(value)

    def amount(self, value: float | None) -> str:
        """Write a spread or a margin: a difference without a sign."""
        if value is None or not math.isfinite(value):
            return ABSENT
        return f"{value * 100:.2f} pp" if self.share else self._plain(value)

    def signed(self, value: float | None) -> str:
        """Write a difference with its sign and without its unit."""
        if value is None or not math.isfinite(value):
            return ABSENT
        text = f"{abs(value) * 100:.2f}" if self.share else self._plain(abs(value))
        if not any(digit in "123456789" for digit in text):
            return text  # a rounded zero has no sign
        return (MINUS if value < 0 else "+") + text

    def difference(self, value: float | None) -> str:
        """Write a difference with its sign and unit."""
        text = self.signed(value)
        return f"{text} pp" if self.share and text != ABSENT else text

    def interval(self, low: float | None, high: float | None) -> str:
        """Write an interval of differences."""
        if low is None or high is None:
            return ABSENT
        return f"{self.signed(low)} to {self.signed(high)}" + (" pp" if self.share else "")

    def _plain(self, value: float) -> str:
        if self.places is None or abs(value) >= 1e7:
            return number(value)
        return f"{value:,.{self.places}f}".replace("-", MINUS)

    def effect(self, contrast: Contrast | Effect) -> str:
        """Write a contrast's mean difference and, where there is one, its interval."""
        if contrast.low is None or contrast.high is None:
            return self.difference(contrast.mean)
        return f"{self.difference(contrast.mean)} (95 % interval {self.interval(contrast.low, contrast.high)})"
