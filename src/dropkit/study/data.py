"""Data in memory: read from anywhere, checked once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.readers import Array, Parts, Raw, read
from dropkit.study.targets import TASKS, check_finite, check_resolution, targets_of

PARTS = ("train", "val", "test")
FEWEST = 10
"""Fewest examples that `load` accepts in all."""


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in memory; validation and test parts are None where `partition` is to split them off.

    Features are float32, or int64 where the user's whole numbers are kept as token ids. Classification targets are (N,)
    int64 labels from 0 without gaps, named by ``classes``; sequence targets are (N, ...) int64 labels of positions from 0,
    -100 where there is none; regression targets are (N, d) float32, and ``classes`` is None. ``digest`` is the SHA-256 of
    every part's type, shape and values.
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor | None
    y_val: Tensor | None
    x_test: Tensor | None
    y_test: Tensor | None
    task: str
    classes: tuple[str, ...] | None
    name: str
    digest: str


def load(data: Any, task: str | None = None, target: str | None = None) -> Data:
    """Read data into memory and check it.

    Args:
        data: the name of an embedded set or the path of a CSV, Parquet, NPZ or IDX file or folder (see `read`); a pair
            ``(x, y)`` of tensors or arrays; a map-style ``torch`` Dataset of ``(x, y)`` pairs, read once from first to last;
            or a dictionary with ``"train"`` and optionally ``"val"`` and ``"test"`` of paths, pairs or Datasets. Features of
            the user's own whole numbers stay whole numbers (int64), as token ids, except bytes and booleans; all others
            become float32.
        task: ``"classification"``, ``"regression"`` or ``"sequence"``; by default regression where the targets are floating
            point, else classification.
        target: the column of a table to predict; the last one by default.

    Raises:
        InputError: the source is not understood, or what it holds breaks a rule.

    Example:
        >>> data = load((torch.randn(12, 3), torch.arange(12) % 2))
        >>> data.task, data.classes, data.x_val
        ('classification', ('0', '1'), None)
    """
    if isinstance(data, Data):
        return data
    if task not in (None, *TASKS):
        raise InputError(f"task is one of {', '.join(TASKS)}", got=task, fix="Choose one, or leave it out")
    raw = _raw(data, target)
    parts = {part: (_array(x), _array(y)) for part, (x, y) in raw.parts.items()}
    _check_lengths(parts)
    found = task or ("regression" if any(y.dtype.kind == "f" for _, y in parts.values()) else "classification")
    features = {part: features_of(x, part, raw) for part, (x, _) in parts.items()}
    check_resolution(parts["train"][0], features["train"], "x", raw.columns)
    targets, classes = targets_of({part: y for part, (_, y) in parts.items()}, found, raw.classes)
    check_resolution(parts["train"][1], targets["train"], "y")
    tensors = {f"{letter}_{part}": held.get(part) for part in PARTS for letter, held in (("x", features), ("y", targets))}
    return Data(**tensors, task=found, classes=classes, name=raw.name, digest=digest_of(tensors))  # type: ignore[arg-type]


def _raw(data: Any, target: str | None) -> Raw:
    if isinstance(data, (str, os.PathLike)):
        return read(data, target)
    if isinstance(data, Mapping):
        unknown = [key for key in data if key not in PARTS]
        if unknown or "train" not in data:
            raise InputError("a dictionary of data has 'train' and optionally 'val' and 'test'", got=list(data),
                             fix="Rename its keys")
        return _parts({part: data[part] for part in PARTS if part in data}, target)
    _refuse_target(target)
    return Raw("data in memory", {"train": _pair(data)}, tokens=True)


def _refuse_target(target: str | None) -> None:
    if target is not None:
        raise InputError("`target` names a column of a CSV or Parquet file", got=target, fix="Leave it out for data in memory")


def _parts(data: Mapping[str, Any], target: str | None) -> Raw:
    """Parts one by one: in memory, or each a file, or of files the training part where they hold several."""
    files = {part: read(source, target) for part, source in data.items() if isinstance(source, (str, os.PathLike))}
    if not files:
        _refuse_target(target)
    if len(files) < len(data):
        if files:
            kinds = {part: type(source).__name__ for part, source in data.items()}
            raise InputError("all parts are files, or none is", got=kinds, fix="Read the files, or save the others")
        return Raw("data in memory", {part: _pair(source) for part, source in data.items()}, tokens=True)
    train = files["train"]
    for part, file in files.items():
        if file.columns != train.columns:
            raise InputError("all parts have the columns of the training part, in its order",
                             got=phrase(f"{', '.join(file.columns or ('none',))} in {part}"),
                             fix=f"The training part has {', '.join(train.columns or ('none',))}")
    return replace(train, parts={part: file.parts["train"] for part, file in files.items()})


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, Dataset):
        return _collected(data)
    if isinstance(data, (tuple, list)) and len(data) == 2 and not any(isinstance(one, Dataset) for one in data):
        return data[0], data[1]
    raise InputError("data is a name, a path, a pair (x, y), a torch Dataset, or a dictionary of pairs or Datasets",
                     got=phrase(f"{type(data).__name__}{f' of {len(data)}' if isinstance(data, (tuple, list)) else ''}"),
                     fix='Pass for example (x, y), or {"train": (x, y), "test": (x, y)}')


def _collected(data: Dataset[Any]) -> tuple[Any, Any]:
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return data.tensors[0], data.tensors[1]
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise InputError("a Dataset has a length and items by index", got=phrase(type(data).__name__),
                         fix="Read it into tensors first, or wrap it in a map-style Dataset")
    items = [_item(data, index) for index in range(len(data))]
    for index, item in enumerate(items):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            of = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise InputError("the items of a Dataset are pairs (x, y)",
                             got=phrase(f"{type(item).__name__}{of} at index {index}"),
                             fix="Return the features and the target from __getitem__")
    return _stacked([x for x, _ in items], "x"), _stacked([y for _, y in items], "y")


def _item(data: Dataset[Any], index: int) -> Any:
    try:
        return data[index]
    except FAILURES as error:
        raise InputError("a Dataset gives an item for every index below its length",
                         got=phrase(f"{type(error).__name__} at index {index}: {error}"),
                         fix="Correct __getitem__, or the file that it reads") from error


def _stacked(values: list[Any], what: str) -> Array:
    arrays = [_array(value) for value in values]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise InputError(f"the items of a Dataset have {what} of one shape", got=phrase(" and ".join(map(str, shapes[:3]))),
                         fix="Pad, crop or resize them in the Dataset")
    return np.stack(arrays) if arrays else np.empty(0)


def _array(values: Any) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has no bfloat16
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise InputError("x and y are tensors or arrays", got=phrase(f"{type(values).__name__}: {error}"),
                         fix="Convert them, for example by numpy.asarray") from error


def _check_lengths(parts: Parts) -> None:
    for part, (x, y) in parts.items():
        if x.ndim == 0 or y.ndim == 0:
            raise InputError("x and y hold one entry an example", got=phrase(f"a single value in the {part} data"),
                             fix="Pass arrays whose first dimension counts the examples")
        if len(x) != len(y):
            raise InputError("x and y have one length", got=phrase(f"{len(x)} features and {len(y)} targets in the {part} "
                             "data"), fix="Check that both hold the same examples")
        if x.size == 0:
            raise InputError("a data set is not empty", got=phrase(f"x of shape {x.shape} in the {part} data"),
                             fix="Check the source, or leave the part out")
        if x.shape[1:] != parts["train"][0].shape[1:] or y.shape[1:] != parts["train"][1].shape[1:]:
            raise InputError("all parts have examples of one shape", got=phrase(f"x {x.shape} and y {y.shape} in {part}"),
                             fix=f"The training data has x {parts['train'][0].shape}, y {parts['train'][1].shape}")
    n = sum(len(y) for _, y in parts.values())
    if n < FEWEST:
        raise InputError(f"a study needs at least {FEWEST} examples", got=n, fix="Pass more data")


def features_of(x: Array, part: str, raw: Raw) -> Tensor:
    """Features as a tensor: float32, or int64 where the user's whole numbers are kept as token ids.

    Args:
        x: (N, ...).
        part: what the errors call them.
        raw: the source.

    Raises:
        InputError: for other types, and values that are not finite in float32.
    """
    if x.dtype.kind not in "biuf":
        raise InputError("features are real numbers", got=phrase(f"type {x.dtype} in the {part} data"),
                         fix="Encode them as numbers")
    if raw.tokens and x.dtype.kind in "iu" and x.dtype.itemsize > 1:
        return torch.from_numpy(x.astype(np.int64, order="C"))
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused next
        values = x.astype(np.float32, order="C")
    check_finite(values, f"x of the {part} data", raw.columns)
    return torch.from_numpy(values[:, None] if values.ndim == 1 else values)


def digest_of(tensors: Mapping[str, Tensor | None]) -> str:
    """Return the SHA-256 of the type, shape and values of named tensors.

    Args:
        tensors: name -> values on the CPU, or None for what is not there.
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name]
        if values is not None:
            array = np.ascontiguousarray(values.numpy())
            found.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}\n".encode())
            found.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return found.hexdigest()
