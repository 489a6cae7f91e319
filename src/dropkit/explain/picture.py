"""A picture of a mask: what of each input gets through in training, relative to evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from dropkit.core.streams import keyed
from dropkit.testing.subject import Subject, first, subject_of
from dropkit.variants.claims import Variant

Grid = list[list[float]]

_SHADES = "·░▒▓█"
_CELL, _GAP, _TITLE = 9, 14, 22
_LARGEST = 40  # rows or columns of one example in a picture


def mask_of(row: Variant, p: float = 0.4, examples: int = 4, seed: int = 0) -> list[Grid]:
    """What gets through of each value of a small batch in one training pass, relative to evaluation.

    For floating data that is the derivative of the sum of the output, in training over evaluation: 0 where a value was
    dropped, ``1 / (1 - p)`` where inverted scaling kept it. For token ids it is whether a token stayed.

    Args:
        row: of the catalog.
        p: the rate, in [0, 1).
        examples: how many examples.
        seed: of the mask.

    Returns:
        A grid of numbers for each example: its last dimension runs along rows, all others down the columns.

    Example:
        >>> from dropkit.catalog import CATALOG
        >>> len(mask_of(CATALOG[0], examples=2))
        2
    """
    subject = subject_of(row)
    if row.trial.picture is not None:
        subject = replace(subject, make=row.trial.picture)
    x, *rest = subject.data(examples)
    passed = _derivative(subject, p, seed, x, rest) if x.is_floating_point() else _stayed(subject, p, seed, x, rest)
    passed = passed.flatten(0, -2)[None] if passed.shape[0] != examples else passed
    return [_grid(example) for example in passed]


def draw_text(grids: Sequence[Grid]) -> str:
    """Grids side by side in shades of text.

    Args:
        grids: what `mask_of` returned.

    Example:
        >>> print(draw_text([[[0.0, 2.0], [2.0, 1.0]]]))
        ·█
        █▒
    """
    top = max(abs(value) for grid in grids for line in grid for value in line) or 1.0
    height = max(map(len, grids))
    lines = []
    for i in range(height):
        parts = ["".join(_shade(value, top) for value in grid[i]) if i < len(grid) else " " * len(grid[0]) for grid in grids]
        lines.append("  ".join(parts))
    return "\n".join(lines)


def draw_svg(title: str, grids: Sequence[Grid]) -> str:
    """Grids side by side as an SVG image that reads on light and dark pages.

    Args:
        title: above the grids.
        grids: what `mask_of` returned.

    Example:
        >>> draw_svg("Dropout", [[[0.0, 2.0]]]).startswith("<svg")
        True
    """
    body, width, height = svg_body(title, grids)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    label = f"{escape(title)}: dropped values are pale"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">{body}</svg>\n'


def svg_body(title: str, grids: Sequence[Grid]) -> tuple[str, int, int]:
    """What is inside `draw_svg`'s image, with its width and height, for pictures of many variants.

    Args:
        title: above the grids.
        grids: what `mask_of` returned.

    Example:
        >>> svg_body("Dropout", [[[0.0, 2.0]]])[1:]
        (60, 31)
    """
    top = max(abs(value) for grid in grids for line in grid for value in line) or 1.0
    parts = [f'<text x="0" y="13" font-family="sans-serif" font-size="12" fill="#777">{escape(title)}</text>']
    left = 0
    for grid in grids:
        for i, line in enumerate(grid):
            for j, value in enumerate(line):
                parts.append(f'<rect x="{left + j * _CELL}" y="{_TITLE + i * _CELL}" width="{_CELL - 1}" height="{_CELL - 1}" '
                             f'fill="{_colour(value, top)}"/>')
        left += len(grid[0]) * _CELL + _GAP
    width = max(left - _GAP, 60, 7 * len(title))
    return "".join(parts), width if len(title) > 8 else max(left - _GAP, 60), _TITLE + max(map(len, grids)) * _CELL


def _derivative(subject: Subject, p: float, seed: int, x: Tensor, rest: Sequence[Any]) -> Tensor:
    x = x.abs() + 0.5
    slopes = []
    for training in (True, False):
        leaf = x.clone().requires_grad_()
        with keyed(seed):
            y = first(subject.module(p).train(training)(leaf, *rest))
        slope, = torch.autograd.grad(y.sum(), leaf, allow_unused=True, materialize_grads=True)
        slopes.append(slope)
    train, whole = slopes
    return torch.where(whole == 0, torch.ones_like(train), train / torch.where(whole == 0, 1.0, whole))


def _stayed(subject: Subject, p: float, seed: int, x: Tensor, rest: Sequence[Any]) -> Tensor:
    with keyed(seed):
        y = first(subject.module(p)(x, *rest))
    if y.shape == x.shape:
        return (y == x).double()
    if y.is_floating_point():  # a layer that takes ids
        return (y != 0).any(-1).double()
    kept = {tuple(column) for column in y.t().tolist()}  # edges
    return torch.tensor([[float(tuple(column) in kept) for column in x.t().tolist()]])


def _grid(example: Tensor) -> Grid:
    flat = example.reshape(-1, example.shape[-1]) if example.dim() > 1 else example.reshape(1, -1)
    grid: Grid = flat[:_LARGEST, :_LARGEST].tolist()
    return grid


def _shade(value: float, top: float) -> str:
    level = min(abs(value) / top, 1.0)
    return _SHADES[0] if level == 0 else _SHADES[max(1, round(level * 4))]


def _colour(value: float, top: float) -> str:
    level = min(abs(value) / top, 1.0)
    if level == 0:
        return "#dfe3ea"
    low, high = (150, 190, 235), (25, 80, 170)
    return "#" + "".join(f"{round(a + (b - a) * level):02x}" for a, b in zip(low, high, strict=True))
