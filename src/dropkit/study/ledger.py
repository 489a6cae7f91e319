"""One SQLite file in the output folder that holds every finished run; one process writes it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from dropkit.core.errors import DropkitError, InputError, phrase
from dropkit.study.folder import check_folder, lock_folder
from dropkit.study.result import Arm, Run, run_from

NAME = "ledger.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS experiment (hash TEXT PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
  arm TEXT NOT NULL, setting TEXT NOT NULL, seed INTEGER NOT NULL, seconds REAL NOT NULL, record TEXT NOT NULL,
  PRIMARY KEY (arm, setting, seed));
CREATE TABLE IF NOT EXISTS failures (arm TEXT NOT NULL, seed INTEGER NOT NULL, error TEXT NOT NULL, PRIMARY KEY (arm, seed));
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class LedgerError(DropkitError):
    """The ledger cannot be written."""


def arm_key(arm: Arm) -> str:
    """Return the arm's rates and recipe as text, so that an arm that changed is not taken for the one that ran."""
    return json.dumps([[[site.name, site.p] for site in arm.sites], arm.recipe.changes()])


class Ledger:
    """The runs finished so far, opened for one experiment and locked against a second writer.

    Each run is one transaction: a process killed at any moment leaves whole runs behind and nothing else.

    Args:
        folder: the study's output folder; made if it is missing.
        experiment_hash: `fingerprint` of the experiment.
        name: the experiment's name.
        plan: what the study means to run, for `dropkit status`.

    Raises:
        InputError: the folder holds something else, another experiment, or a study that is running now.
    """

    def __init__(self, folder: Path, experiment_hash: str, name: str, plan: dict[str, list[int]]) -> None:
        check_folder(folder, NAME, "study")
        self._lock = lock_folder(folder, "study")
        try:
            self._db = _open(folder / NAME)
            self._claim(folder, experiment_hash, name, plan)
        except BaseException:
            self.close()
            raise

    def _claim(self, folder: Path, experiment_hash: str, name: str, plan: dict[str, list[int]]) -> None:
        with self._writing():
            self._db.executescript(_SCHEMA)
            held = self._db.execute("SELECT hash, name FROM experiment").fetchone()
            if held is not None and held[0] != experiment_hash:
                raise InputError("an output folder holds one experiment",
                                 got=phrase(f"{folder}, which holds {held[1]!r} with other data, model or settings"),
                                 fix="Choose another folder with --out, or delete this one")
            self._db.execute("INSERT OR REPLACE INTO experiment VALUES (?, ?, ?)", (experiment_hash, name, json.dumps(plan)))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction: written whole, or not at all and the user told why."""
        try:
            with self._db:
                yield
        except sqlite3.OperationalError as error:  # disk full, file system gone or read-only
            raise LedgerError(f"the ledger could not be written: {error}. The runs in it are safe; make room, "
                              "and run the same command to go on.") from error

    def finished(self, arms: list[Arm], seeds: list[int]) -> dict[tuple[str, int], tuple[Run, float]]:
        """Return the finished runs among ``arms`` x ``seeds``, with the seconds each took."""
        wanted = {(arm.name, arm_key(arm)) for arm in arms}
        rows = self._db.execute("SELECT arm, setting, seed, seconds, record FROM runs").fetchall()
        return {(arm, seed): (run_from(json.loads(record)), seconds)
                for arm, setting, seed, seconds, record in rows if (arm, setting) in wanted and seed in seeds}

    def add(self, arm: Arm, run: Run, seconds: float) -> None:
        """Keep a finished run.

        Raises:
            LedgerError: the disk is full; the ledger is as it was.
        """
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)",
                             (arm.name, arm_key(arm), run.seed, seconds, json.dumps(asdict(run), allow_nan=False)))
            self._db.execute("DELETE FROM failures WHERE arm = ? AND seed = ?", (arm.name, run.seed))

    def fail(self, arm: Arm, seed: int, error: str) -> None:
        """Note why a run failed, for `dropkit status`; it will be tried when the study goes on."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (arm.name, seed, error))

    def recall(self, name: str) -> Any:
        """Return what `remember` was last given under ``name``, or None."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remember(self, name: str, value: Any) -> None:
        """Keep a fact about the study: anything that JSON holds."""
        with self._writing():
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        """Release the file and the lock."""
        if hasattr(self, "_db"):
            self._db.close()
        self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_failures(folder: Path) -> dict[tuple[str, int], str]:
    """Return the runs that failed when they were last tried, with their errors."""
    db = _open(folder / NAME)
    try:
        return {(arm, seed): error for arm, seed, error in db.execute("SELECT arm, seed, error FROM failures")}
    except sqlite3.DatabaseError as error:
        raise _damaged(folder / NAME, error) from error
    finally:
        db.close()


def read_progress(folder: Path) -> tuple[str, dict[str, list[int]], set[tuple[str, int]]]:
    """Return a study's name, its plan (arm -> seeds) and its finished runs, without locking it.

    Raises:
        InputError: the folder holds no study.
    """
    if not (folder / NAME).exists():
        raise InputError("the folder holds a study", got=str(folder), fix="Name the folder given to `dropkit study --out`")
    db = _open(folder / NAME)
    try:
        name, plan = db.execute("SELECT name, plan FROM experiment").fetchone() or ("", "{}")
        done = set(db.execute("SELECT arm, seed FROM runs").fetchall())
    except sqlite3.DatabaseError as error:
        raise _damaged(folder / NAME, error) from error
    finally:
        db.close()
    return name, json.loads(plan), done


def _open(file: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(file)
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as error:
        raise _damaged(file, error) from error
    return db


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError("the ledger is a SQLite file that dropkit wrote", got=phrase(f"{file}: {error}"),
                      fix="Delete the folder, or choose another with --out")
