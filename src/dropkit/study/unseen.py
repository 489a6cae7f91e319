"""Examples that a trained model is asked about: features, and targets where the source has them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.study.data import features_of, load
from dropkit.study.partition import moments, scaled
from dropkit.study.readers import Array, Raw, check_exists, nearest, read
from dropkit.study.tables import TABLES, numbers_in, read_table


@dataclass(frozen=True, eq=False)
class Unseen:
    """Examples.

    Args:
        x: (N, ...), float32, or int64 for token ids.
        y: (N,) or (N, d) targets as the source holds them, numbers or text; None where it has none.
        classes: names of the labels 0, 1, ... where the source tells them.
        name: of the source.
    """

    x: Tensor
    y: Array | None
    classes: tuple[str, ...] | None
    name: str


@dataclass(frozen=True, eq=False)
class Scale:
    """How a model's training data was standardised.

    Args:
        mean: of the features, one a column of a table, or a single one.
        std: their standard deviation; 0 where a feature is constant.
        y_mean: of the targets of a regression, (d,); None in classification.
        y_std: their standard deviation; 1 where constant.
        classes: the labels' names; None in regression.
    """

    mean: Tensor
    std: Tensor
    y_mean: Tensor | None
    y_std: Tensor | None
    classes: tuple[str, ...] | None

    def of(self, examples: Unseen) -> Unseen:
        """Examples with features on the training data's scale; token ids stay.

        Args:
            examples: with as many features as the training data.

        Raises:
            InputError: for another number of features.
        """
        if not examples.x.is_floating_point():
            return examples
        if self.mean.dim() and examples.x.shape[1:] != self.mean.shape:
            raise InputError("the data has the features of the training data", got=phrase(
                f"{tuple(examples.x.shape[1:])} where the training data has {tuple(self.mean.shape)}"),
                fix="Name the target column, if it is the difference, or pass the data that the model was trained on")
        return replace(examples, x=scaled(examples.x, self.mean, self.std), classes=self.classes or examples.classes)


def unseen(source: str | os.PathLike[str], target: str | None = None, part: str | None = None) -> Unseen:
    """Read examples by name or path.

    Args:
        source: what `dropkit.study.readers.read` knows, of which the targets are kept; a ``.csv`` or ``.parquet`` table, all of
            whose columns are features but the target; or features alone in a ``.npy`` file, or as x or X in a ``.npz`` file.
        target: the table's column that holds the targets; none by default.
        part: ``"train"``, ``"val"`` or ``"test"`` of a source that has several; by default the test part where there is one.

    Raises:
        InputError: the source is not understood, or what it holds breaks a rule.

    Example:
        >>> unseen("iris").x.shape
        torch.Size([150, 4])
    """
    path = Path(source).expanduser()
    kind = path.suffix.lower()
    if kind in TABLES:
        _only_part(part, path.name)
        return _table(path, target)
    check_exists(source)
    if target is not None:
        raise InputError("`target` names a column of a CSV or Parquet file", got=target, fix=f"Leave it out for {path.name}")
    if kind in (".npy", ".npz") and path.is_file():
        alone = _features_alone(path)
        if alone is not None:
            _only_part(part, path.name)
            return Unseen(_checked(alone, path.name), None, None, path.stem)
    raw = read(source)
    chosen = part or ("test" if "test" in raw.parts else "train")
    if chosen not in raw.parts:
        raise InputError(f"{raw.name} has the part that is asked for", got=chosen, fix=nearest(chosen, list(raw.parts)))
    x, y = raw.parts[chosen]
    return Unseen(features_of(np.asarray(x), chosen, raw), np.asarray(y), raw.classes, raw.name)


def scale_like(source: str | os.PathLike[str], target: str | None = None, task: str | None = None) -> Scale:
    """Return the scale of training data: mean and standard deviation of features, and of a regression's targets.

    Args:
        source: as in `dropkit.study.data.load`; of several parts the training part counts.
        target: the table's column that holds the targets; the last one by default.
        task: as in `dropkit.study.data.load`.

    Example:
        >>> scale_like("iris").classes
        ('setosa', 'versicolor', 'virginica')
    """
    data = load(source, task, target)
    mean, std = moments(data.x_train) if data.x_train.is_floating_point() else (torch.zeros(()), torch.ones(()))
    if data.task == "classification":
        return Scale(mean, std, None, None, data.classes)
    y_mean, y_std = moments(data.y_train)
    return Scale(mean, std, y_mean, torch.where(y_std == 0, 1.0, y_std), None)


def labels_of(y: Array, count: int, classes: tuple[str, ...] | None) -> Tensor:
    """The labels 0, 1, ... that targets stand for.

    With names of classes, targets are looked up among them; else whole numbers in [0, count) are labels as they are, and
    other targets are numbered in their order where there are as many different ones as classes.

    Args:
        y: (N,) numbers or text.
        count: how many classes the model has.
        classes: the labels' names.

    Raises:
        InputError: for a target that is no class.

    Example:
        >>> labels_of(np.array(["no", "yes", "no"]), 2, None)
        tensor([0, 1, 0])
    """
    values = y.reshape(len(y)) if y.size == len(y) else y
    if values.ndim != 1:
        raise InputError("classification targets are one label an example", got=phrase(f"shape {y.shape}"),
                         fix="Pass --task regression for numbers")
    whole = values.dtype.kind in "iub" or (values.dtype.kind == "f" and bool((values == np.floor(values)).all()))
    if whole and (classes is None or all(not name.lstrip("-").isdigit() for name in classes)) \
            and values.min() >= 0 and values.max() < count:
        return torch.from_numpy(values.astype(np.int64))
    names = [str(int(value)) if whole else str(value) for value in values]
    known = list(classes or _sorted(set(names), whole))
    if len(known) != count:
        raise InputError(f"targets are labels of the model's {count} classes", got=phrase(f"{len(known)} different ones: "
                         f"{', '.join(known[:8])}"), fix="Pass --like with the training data, which names the classes")
    missing = sorted(set(names) - set(known))
    if missing:
        raise InputError("every target is a class of the training data", got=missing[0], fix=nearest(missing[0], known))
    place = {name: label for label, name in enumerate(known)}
    return torch.tensor([place[name] for name in names])


def _sorted(names: set[str], whole: bool) -> list[str]:
    return sorted(names, key=int) if whole else sorted(names)


def _only_part(part: str | None, name: str) -> None:
    if part is not None:
        raise InputError("`part` chooses among the parts of a data set that has several", got=part,
                         fix=f"Leave it out for {name}")


def _table(path: Path, target: str | None) -> Unseen:
    if not path.is_file():
        raise InputError("a data file exists", got=str(path), fix="Check the path")
    table = read_table(path)
    if not len(table):
        raise InputError("a data set is not empty", got=phrase(f"no rows in {path.name}"), fix="Check the source")
    columns = list(table.columns)
    if target is not None and target not in columns:
        raise InputError(f"the target is a column of {path.name}", got=target, fix=nearest(target, columns))
    features = [column for column in columns if column != target]
    x = numbers_in(table, features)
    y = None if target is None else table[target]
    if y is not None and bool(y.isna().any()):
        raise InputError("every example has a target", got=phrase(f"{int(y.isna().sum())} missing in column {target!r}"),
                         fix="Fill in or drop those rows, or leave the target out")
    return Unseen(_checked(x, path.name), None if y is None else y.to_numpy(), None, path.stem)


def _features_alone(path: Path) -> Array | None:
    """The array of a .npy file, or x of a .npz file without targets; None for a .npz file with some."""
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                alone = [name for name in ("x", "X", "data") if found.files == [name]]
                return np.asarray(found[alone[0]]) if alone else None
    except (ValueError, EOFError, OSError) as error:
        if path.suffix == ".npz":
            return None  # `read` tells what is wrong with it
        raise InputError("a .npy file holds an array of numbers", got=phrase(f"{path.name}: {error}"),
                         fix="Save it with numpy.save(path, x)") from error


def _checked(x: Array, name: str) -> Tensor:
    if len(x) == 0 or x.ndim == 0:
        raise InputError("a data set is not empty", got=phrase(f"shape {x.shape} in {name}"), fix="Check the source")
    return features_of(x, name, Raw(name, {}, tokens=True))
