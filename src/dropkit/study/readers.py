"""Data by name or path: scikit-learn's embedded sets, CSV, Parquet, NPZ and IDX files, as plain arrays."""

from __future__ import annotations

import difflib
import gzip
import math
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.study.tables import TABLES, numbers_in, read_table

Array = npt.NDArray[Any]
Parts = dict[str, tuple[Any, Any]]

EMBEDDED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
"""Names of scikit-learn's embedded data sets that `read` knows."""

_IDX_NAME = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?$")
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NPZ_KEYS = (("x_train", "y_train"), ("X_train", "y_train"), ("x", "y"), ("X", "y"), ("data", "target"))


@dataclass(frozen=True)
class Raw:
    """What a source holds: ``parts`` maps train, val and test to (features, targets).

    ``columns`` names the features and ``classes`` the labels 0, 1, ... where the source does. ``tokens`` tells whether
    whole-number features are kept as such (token ids) or are measurements.
    """

    name: str
    parts: Parts
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    tokens: bool = False


def read(source: str | os.PathLike[str], target: str | None = None) -> Raw:
    """Read a data set by name or path.

    Args:
        source: ``"digits"``, ``"breast_cancer"``, ``"wine"``, ``"iris"`` or ``"diabetes"``; or the path of a ``.csv`` file
            with a header or a ``.parquet`` file; a ``.npz`` file with x and y, X and y, data and target, or x_train, y_train
            and optionally x_val, y_val, x_test, y_test; an IDX file, or a folder of IDX files under their usual names, plain
            or ``.gz``.
        target: the column of a table to predict; the last one by default.

    Raises:
        InputError: there is no such set or file, or its content breaks a rule of its format.
        MissingExtraError: scikit-learn, pandas or pyarrow is needed and not installed.

    Example:
        >>> features, targets = read("iris").parts["train"]
        >>> features.shape, targets.shape
        ((150, 4), (150,))
    """
    name = os.fspath(source)
    path = Path(name).expanduser()
    table = path.suffix.lower() in TABLES
    check_exists(source)
    if target is not None and not table:
        raise InputError("`target` names a column of a CSV or Parquet file", got=target, fix=f"Leave it out for {name}")
    if name in EMBEDDED:
        return _embedded(name)
    if path.is_dir() or _IDX_NAME.match(path.name):
        return _idx(path)
    if table:
        return _table(path, target)
    if path.suffix.lower() == ".npz":
        return _npz(path)
    raise InputError("data comes as .csv, .parquet, .npz, or IDX files named like train-images-idx3-ubyte(.gz)", got=path.name,
                     fix="Convert it, or pass tensors, arrays or a torch Dataset instead of a path")


def check_exists(source: str | os.PathLike[str]) -> None:
    """Refuse what names neither an embedded set nor a file or folder.

    Args:
        source: as in `read`.

    Raises:
        InputError: there is no such thing.

    Example:
        >>> check_exists("iris")
    """
    name = os.fspath(source)
    if name not in EMBEDDED and not Path(name).expanduser().exists():
        raise _missing(name)


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read one IDX file, the format of MNIST.

    An IDX file starts with two zero bytes, a type code and the number of dimensions; the sizes follow as big-endian 32-bit
    numbers, then the values in row-major order.

    Args:
        path: the file; gzip is recognised by its content.

    Returns:
        The values in the machine's byte order.

    Raises:
        InputError: the magic number is wrong, or the file is shorter or longer than its header says.

    References:
        Y. LeCun, C. Cortes and C. Burges, "The MNIST Database of Handwritten Digits", 1998.
    """
    raw, name = _unpacked(Path(path)), Path(path).name
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES or raw[3] == 0:
        raise InputError("an IDX file starts with two zero bytes, a type code (08, 09, 0b, 0c, 0d or 0e) and a number of "
                         "dimensions", got=phrase(f"{raw[:4].hex(' ') or 'no bytes'} in {name}"),
                         fix="Check that the file is IDX and was downloaded whole")
    start = 4 + 4 * raw[3]
    kind = np.dtype(_IDX_TYPES[raw[2]])
    shape = tuple(int.from_bytes(raw[at:at + 4], "big") for at in range(4, min(start, len(raw)), 4))
    expected = start + math.prod(shape) * kind.itemsize
    if len(raw) < start or len(raw) != expected:
        state = "truncated" if len(raw) < max(start, expected) else "too long"
        raise InputError(f"{name} is as long as its header says, {expected:,} bytes for shape {shape}",
                         got=phrase(f"{len(raw):,} bytes, so it is {state}"), fix="Download or write it again")
    return np.frombuffer(raw, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the remedy for an unknown name: the nearest known one first, then what is known.

    Example:
        >>> nearest("digit", ("wine", "digits"))
        "Did you mean 'digits'? Known are wine, digits"
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known are {listed}"


def _missing(name: str) -> InputError:
    if Path(name).suffix or os.sep in name or "/" in name:
        return InputError("a data file or folder exists", got=name, fix="Check the path; it is relative to the folder "
                          f"{Path.cwd().name or Path.cwd()}")
    return InputError("data is the name of an embedded set, or the path of a file or folder", got=name,
                      fix=nearest(name.lower(), EMBEDDED))


def _embedded(name: str) -> Raw:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingExtraError("sklearn", "study") from error
    bunch = getattr(datasets, f"load_{name}")()
    labels = None if name == "diabetes" else tuple(str(label) for label in bunch.target_names)
    columns = tuple(str(column) for column in bunch.feature_names)
    return Raw(name, {"train": (bunch.data, bunch.target)}, columns, labels)


def _table(path: Path, target: str | None) -> Raw:
    table = read_table(path)
    columns = list(table.columns)
    chosen = columns[-1] if target is None and columns else target
    if chosen not in columns:
        raise InputError(f"the target is a column of {path.name}", got=chosen, fix=nearest(str(chosen), columns))
    if len(columns) < 2:
        raise InputError("a table holds features and a target", got=phrase(f"the column {chosen!r} alone in {path.name}"),
                         fix="Add columns; in a CSV file values are separated by commas")
    features = [column for column in columns if column != chosen]
    missing = int(table[chosen].isna().sum())
    if missing:
        raise InputError("every example has a target", got=phrase(f"{missing} missing in column {chosen!r}"),
                         fix="Fill in or drop those rows")
    return Raw(path.stem, {"train": (numbers_in(table, features), table[chosen].to_numpy())}, tuple(features))


def _npz(path: Path) -> Raw:
    with path.open("rb") as file:  # numpy leaves a file open that it opened itself and cannot read
        try:
            archive = np.load(file, allow_pickle=False)  # unpickling a stranger's file would run its code
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            # NumPy takes what it does not know for a pickle, and tells how to load that: not here.
            raise InputError("an .npz file is an archive of arrays", got=phrase(f"something else, or a part, in {path.name}"),
                             fix="Save it with numpy.savez(path, x=x, y=y)") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError("an .npz file is an archive of arrays", got=phrase(f"a single array in {path.name}"),
                             fix="Save it with numpy.savez(path, x=x, y=y)")
        with archive:
            return Raw(path.stem, _npz_parts(archive, path.name), tokens=True)


def _npz_parts(archive: Any, name: str) -> Parts:
    held = set(archive.files)
    pair = next((keys for keys in _NPZ_KEYS if set(keys) <= held), None)
    if pair is None:
        raise InputError("an .npz file holds x and y, data and target, or x_train and y_train",
                         got=phrase(f"{', '.join(archive.files) or 'nothing'} in {name}"),
                         fix="Save it with numpy.savez(path, x=x, y=y)")
    parts = {"train": (_npz_array(archive, pair[0], name), _npz_array(archive, pair[1], name))}
    if not pair[0].endswith("_train"):
        return parts
    for part in ("val", "test"):
        keys = f"{pair[0][0]}_{part}", f"y_{part}"
        if held.isdisjoint(keys):
            continue
        if not held.issuperset(keys):
            raise InputError(f"{name} holds features and targets of a part", got=sorted(held.intersection(keys)),
                             fix=f"Save {' and '.join(keys)}, or neither")
        parts[part] = (_npz_array(archive, keys[0], name), _npz_array(archive, keys[1], name))
    return parts


def _npz_array(archive: Any, key: str, name: str) -> Array:
    try:
        found: Array = archive[key]
        return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise InputError("an .npz file holds plain arrays of numbers or text",
                         got=phrase(f"{key} in {name}: {error}"),
                         fix="Save arrays without dtype=object; dropkit never unpickles") from error


def _idx(path: Path) -> Raw:
    folder, given = (path, None) if path.is_dir() else (path.parent, _IDX_NAME.match(path.name))
    files = _idx_files(folder)
    if given is not None:  # its partner is looked for; the other parts of the folder are not
        prefix, words = given["prefix"], {"train": given["part"]}
        files[prefix, given["part"], given["what"]] = path
    else:
        prefix = _only_set(files, folder)
        tests = [word for word in ("t10k", "test") if any(key[:2] == (prefix, word) for key in files)]
        words = {"train": "train"} | ({"test": tests[0]} if tests else {})
    parts = {part: _idx_pair(files, prefix, word, folder) for part, word in words.items()}
    return Raw(prefix.rstrip("-_.") or folder.resolve().name or "idx", parts)


def _only_set(files: dict[tuple[str, str, str], Path], folder: Path) -> str:
    prefixes = sorted({prefix for prefix, _, _ in files})
    if len(prefixes) != 1:
        found = ", ".join(prefix or "(no prefix)" for prefix in prefixes) or "no such file"
        raise InputError("a data folder holds train-images-idx3-ubyte and train-labels-idx1-ubyte of one data set",
                         got=phrase(f"{found} in {folder.name or folder}"),
                         fix="Name a folder with one set, or the images file of one")
    return prefixes[0]


def _idx_pair(files: dict[tuple[str, str, str], Path], prefix: str, word: str, folder: Path) -> tuple[Array, Array]:
    images, labels = (files.get((prefix, word, what)) for what in ("images", "labels"))
    if images is None or labels is None:
        missing = [what for what, path in (("images", images), ("labels", labels)) if path is None]
        raise InputError(f"IDX images and labels come in pairs, {prefix}{word}-images-idx3-ubyte and "
                         f"{prefix}{word}-labels-idx1-ubyte",
                         got=phrase(f"no {' and no '.join(missing)} in {folder.name or folder}"),
                         fix="Add the missing file")
    return read_idx(images), read_idx(labels)


def _idx_files(folder: Path) -> dict[tuple[str, str, str], Path]:
    files: dict[tuple[str, str, str], Path] = {}
    for path in sorted(folder.iterdir(), reverse=True):  # so that a plain file wins over its .gz twin
        found = _IDX_NAME.match(path.name)
        if found and path.is_file():
            files[found["prefix"], found["part"], found["what"]] = path
    return files


def _unpacked(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("a data file exists", got=str(path), fix="Check the path") from error
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError("a .gz file is whole", got=phrase(f"{path.name}, truncated or damaged: {error}"),
                         fix="Download or write it again") from error
