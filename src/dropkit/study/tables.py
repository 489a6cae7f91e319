"""Tables from CSV and Parquet files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dropkit.core.errors import InputError, MissingExtraError, phrase


def read_table(path: Path) -> Any:
    """Read a CSV file with a header, or a Parquet file, into a pandas table whose columns are named by text.

    Args:
        path: the file, which ends in ``.csv`` or ``.parquet``.

    Raises:
        InputError: its content breaks a rule of the format.
        MissingExtraError: pandas, or for Parquet pyarrow, is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", "study") from error
    table = TABLES[path.suffix.lower()](path, pd)
    table.columns = [str(column) for column in table.columns]
    return table


def numbers_in(table: Any, columns: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return columns of a table as numbers, (rows, columns).

    Args:
        table: a pandas table.
        columns: of it.

    Raises:
        InputError: a column holds something else.
    """
    if not len(table):
        return np.empty((0, len(columns)))
    _check_numeric(table, columns)
    found: npt.NDArray[np.float64] = table[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
    return found


def _csv(path: Path, pd: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(path, index_col=False, low_memory=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        raise InputError("a CSV file is UTF-8 text: a header, then rows of as many values, separated by commas",
                         got=phrase(f"{path.name}: {str(error).strip()}"), fix="Correct the file") from error
    _check_header([str(column) for column in table.columns], path.name)
    return table


def _parquet(path: Path, pd: Any) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError("a Parquet file holds a table", got=phrase(f"{path.name}: {' '.join(str(error).split())}"),
                         fix="Write it again") from error


TABLES: dict[str, Callable[[Path, Any], Any]] = {".csv": _csv, ".parquet": _parquet}
"""What reads a table, by the end of the file's name; `read_table` calls it."""


def _check_header(columns: Sequence[str], name: str) -> None:
    if all(_is_number(column) for column in columns):
        raise InputError("a CSV file starts with a header", got=phrase(f"{', '.join(columns[:5])} in {name}"),
                         fix="Add a first line with the columns' names")
    bare = [column for column in columns if column.startswith("Unnamed: ")]
    if bare:  # most often a row number that was saved along, which would leak the order of the rows
        raise InputError("every column of a CSV file has a name", got=phrase(f"no name for column {bare[0][9:]} "
                         f"(from 0) in {name}"), fix="Name it, or save the table without its index (index=False)")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_numeric(table: Any, features: Sequence[str]) -> None:
    for column in features:
        kind = table[column].dtype.kind
        if kind not in "biuf":
            values = table[column].dropna()
            odd = next((str(value) for value in values if not _is_number(str(value))), "mixed values")
            raise InputError("features are numbers", got=phrase(f"{odd!r} in column {column!r}"),
                             fix=f"Encode the column as numbers, for example by pandas.get_dummies(table, "
                                 f"columns=[{column!r}]), or drop it")
