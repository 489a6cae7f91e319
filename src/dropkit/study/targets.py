"""Targets of every task, and what numbers must be to be learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.study.positions import IGNORED
from dropkit.study.readers import Array

TASKS = ("classification", "regression", "sequence")
"""One label an example; numbers; a label for each position of an example."""

_LOST = 0.01  # of the standard deviation: a coarser grid of float32 is refused


def targets_of(parts: Mapping[str, Array], task: str,
               names: tuple[str, ...] | None) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    """Return each part's targets as tensors, and the names of the classes, None for a regression.

    Args:
        parts: targets of every part as they were given.
        task: one of `TASKS`.
        names: of the labels 0, 1, ..., where the source has them.

    Raises:
        InputError: they are none of the task.
    """
    if task == "regression":
        return {part: _numbers(y, part) for part, y in parts.items()}, None
    kinds = {y.dtype.kind in "OUST" for y in parts.values()}
    if len(kinds) > 1:
        raise InputError("all parts have targets of one type", got=phrase("text and numbers"),
                         fix="Use the same labels in every part")
    if task == "sequence":
        return _of_positions(parts, names)
    joined = np.concatenate([y.reshape(len(y)) if y.size == len(y) else _refuse_columns(y) for y in parts.values()])
    labels, classes = _labels(joined)
    ends = np.cumsum([len(y) for y in parts.values()])[:-1]
    pieces = (torch.from_numpy(piece.copy()) for piece in np.split(labels, ends))
    return dict(zip(parts, pieces, strict=True)), names or classes


def _of_positions(parts: Mapping[str, Array], names: tuple[str, ...] | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if any(y.ndim < 2 for y in parts.values()):
        raise InputError("sequence targets are a label for each position, (N, T)",
                         got=phrase(f"y of shape {next(y.shape for y in parts.values() if y.ndim < 2)}"),
                         fix="Choose task='classification' for one label an example")
    joined = np.concatenate([y.ravel() for y in parts.values()])
    if joined.dtype.kind in "SOUT":
        labels, classes = _labels(joined)
    else:
        labels, classes = _positions(joined), None
    ends = np.cumsum([y.size for y in parts.values()])[:-1]
    found = {part: piece.reshape(y.shape) for (part, y), piece in zip(parts.items(), np.split(labels, ends), strict=True)}
    for part, y in found.items():
        bare = np.flatnonzero((y.reshape(len(y), -1) == IGNORED).all(1))
        if len(bare):
            raise InputError("every sequence has a position with a label", got=phrase(f"none in number {bare[0]} of {part}"),
                             fix="Leave such sequences out")
    count = int(labels.max()) + 1
    return ({part: torch.from_numpy(y.copy()) for part, y in found.items()},
            names or classes or tuple(str(label) for label in range(count)))


def _positions(y: Array) -> Array:
    """Labels from 0; some may not occur, as words of a vocabulary."""
    whole = y.dtype.kind in "biu" or (y.dtype.kind == "f" and bool((np.isfinite(y) & (y == np.floor(y))).all()))
    if not whole:
        raise InputError("labels are whole numbers, booleans or text", got=phrase(f"other values of type {y.dtype}"),
                         fix="Convert them, or choose task='regression'")
    labels = y.astype(np.int64)
    wrong = labels[(labels < 0) & (labels != IGNORED)]
    if len(wrong):
        raise InputError(f"labels are numbered from 0, and {IGNORED} marks positions without one", got=int(wrong[0]),
                         fix="Renumber them")
    if len(np.unique(labels[labels != IGNORED])) < 2:
        raise InputError("a sequence task has at least two classes", got=phrase("fewer in all the data"),
                         fix="Check the targets")
    return labels


def _numbers(y: Array, part: str) -> Tensor:
    if y.dtype.kind not in "biuf" or y.ndim > 2:
        raise InputError("regression targets are real numbers of shape (N,) or (N, d)",
                         got=phrase(f"type {y.dtype} of shape {y.shape} in the {part} data"),
                         fix="Encode or flatten them, or choose task='classification'")
    with np.errstate(over="ignore"):
        values = y.astype(np.float32, order="C")
    check_finite(values, f"y of the {part} data")
    return torch.from_numpy(values[:, None] if values.ndim == 1 else values)


def _refuse_columns(y: Array) -> Array:
    raise InputError("classification targets are one label an example", got=phrase(f"y of shape {y.shape}"),
                     fix="Turn one-hot rows into labels by argmax(1), or choose task='sequence' for a label a position")


def _labels(y: Array) -> tuple[Array, tuple[str, ...]]:
    """Return labels from 0 without gaps and the classes' names; text is sorted, numbers have to be labels already."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind in "OUT":
        if not all(isinstance(label, (str, bool, np.bool_)) for label in y.tolist()):
            raise InputError("labels are whole numbers, booleans or text", got=phrase(f"type {y.dtype}"),
                             fix="Convert them to one of these")
        y = y.astype(str)
    if y.dtype.kind in "Ub":
        found, labels = np.unique(y, return_inverse=True)
        _check_classes(len(found))
        return labels.astype(np.int64), tuple(str(label) for label in found)
    if y.dtype.kind not in "iuf" or not bool((np.isfinite(y) & (y == np.floor(y))).all()):
        raise InputError("labels are whole numbers, booleans or text", got=phrase(f"other values of type {y.dtype}"),
                         fix="Convert them, or choose task='regression'")
    found = np.unique(y)
    if int(found[0]) != 0 or int(found[-1]) != len(found) - 1:
        raise InputError("labels out of range: they run from 0 to K - 1 without gaps",
                         got=phrase(", ".join(str(int(label)) for label in found[:8]) + (", ..." if len(found) > 8 else "")),
                         fix="Renumber them by numpy.unique(y, return_inverse=True)[1], or choose task='regression'")
    _check_classes(len(found))
    return y.astype(np.int64), tuple(str(int(label)) for label in found)


def _check_classes(n: int) -> None:
    if n < 2:
        raise InputError("a classification has at least two classes", got=phrase("one class in all the data"),
                         fix="Check the targets")


def check_finite(values: Array, where: str, columns: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinities.

    Args:
        values: numbers.
        where: what the error calls them.
        columns: the names of their columns, where they have some.

    Raises:
        InputError: it says how many there are, and where.
    """
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    nan = int(np.isnan(values).sum())
    counts = " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (int(bad.sum()) - nan, "infinite")) if n)
    if columns is not None and values.ndim == 2:
        named = [f"{n} in column {columns[at]!r}" for at, n in enumerate(bad.sum(axis=0).tolist()) if n]
        place = ", ".join(named[:5]) + (", ..." if len(named) > 5 else "")
    else:
        place = f"the first at index {tuple(int(at) for at in np.argwhere(bad)[0])}"
    raise InputError("data is finite (in float32)", got=phrase(f"{counts} in {where}: {place}"),
                     fix="Fill in or drop those values")


def check_resolution(given: Array, kept: Tensor, what: str, columns: Sequence[str] | None = None) -> None:
    """Refuse numbers whose differences are lost in float32, such as times of a minute counted in seconds since 1970.

    Args:
        given: as they came, (N, ...).
        kept: as they were kept.
        what: "x" or "y".
        columns: the names of their columns, where they have some.

    Raises:
        InputError: neighbours of float32 are further apart than a hundredth of a column's standard deviation.

    Example:
        >>> check_resolution(np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]), "x")
    """
    if not kept.is_floating_point() or given.dtype.kind not in "iuf" or given.dtype.itemsize < 4 or given.dtype == np.float32:
        return
    values = given.reshape(len(given), -1) if given.ndim <= 2 else given.reshape(-1, 1)
    largest, std = np.abs(values).max(0).astype(np.float32), values.astype(np.float64).std(0)
    lost = np.flatnonzero((np.spacing(largest) > _LOST * std) & (values.min(0) < values.max(0)))
    if len(lost):
        at = int(lost[0])
        name = f"column {columns[at]!r} of {what}" if columns else f"column {at} of {what}" if values.shape[1] > 1 else what
        raise InputError("numbers keep their differences in float32",
                         got=phrase(f"up to {largest[at]:.3g} with a standard deviation of {std[at]:.3g} in {name}"),
                         fix="Subtract the mean first, in float64")
