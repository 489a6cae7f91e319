"""Numbers in a study's own unit, as sentences show them."""

from __future__ import annotations

from dropkit.study.result import Summary


def count(n: int, noun: str) -> str:
    """Return ``n`` with its noun, in the plural unless n is 1."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def amount(summary: Summary, value: float) -> str:
    """Return a difference without its sign, with its unit."""
    return number(summary, abs(value)) + (" points" if summary.unit == "points" else "")


def margin_words(summary: Summary) -> str:
    """Return the margin with its unit."""
    if summary.unit != "points":
        return f"{summary.margin:.3g}"
    points = f"{100 * summary.margin:.6g}"
    return f"{points} point" if points == "1" else f"{points} points"


def number(summary: Summary, value: float) -> str:
    """Return two decimals for points, three significant digits otherwise; never a bare 0.00 for what is not zero."""
    if summary.unit != "points":
        short = float(f"{value:.3g}") + 0.0  # no "-0"
        return f"{short:.0f}" if 100 <= abs(short) < 1e15 else f"{short:g}"
    text = f"{100 * value:.2f}"
    return text if float(text) != 0 else "0.00" if abs(value) < 1e-12 else f"{100 * value:.1g}"


def interval(summary: Summary, low: float, high: float, against: str, along: str) -> str:
    """Return "low to high"; where 0 lies between, both without a sign and each with the word for its way.

    Args:
        summary: the unit.
        low: the lower end.
        high: the upper end.
        against: the word for a difference below 0, such as "lower".
        along: the word for one above 0.
    """
    if low < 0 < high:
        return f"{number(summary, -low)} {against} to {number(summary, high)} {along}"
    return f"{number(summary, low)} to {number(summary, high)}"


def signed(summary: Summary, value: float) -> str:
    """Return a difference with its unit, as it is."""
    return number(summary, value) + (" points" if summary.unit == "points" else "")
