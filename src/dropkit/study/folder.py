"""The output folder of a study or a tuning: new, empty or its own, and written to by one process at a time."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from dropkit.core.errors import InputError, phrase

_LOCK = ".lock"


def check_folder(folder: Path, kept: str, what: str) -> None:
    """Refuse an output place that is a file, or a folder with other things in it, before anything is written.

    Args:
        folder: the place.
        kept: the file that shows that the folder belongs to such a thing.
        what: ``"study"`` or ``"tuning"``.

    Raises:
        InputError: it is refused, or cannot be looked at.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError("the output is a folder", got=str(folder), fix="Choose another place with --out")
        foreign = folder.is_dir() and not (folder / kept).exists() and any(item.name != _LOCK for item in folder.iterdir())
    except OSError as error:
        raise _unusable(folder, error) from error
    if foreign:
        raise InputError(f"the output folder is new, empty, or holds this {what}", got=str(folder),
                         fix="Choose another folder with --out")


def lock_folder(folder: Path, what: str) -> FileLock:
    """Make a folder and keep others out of it until the lock that is returned is released.

    Args:
        folder: the place; missing parents are made.
        what: ``"study"`` or ``"tuning"``.

    Raises:
        InputError: another process has it, or it cannot be made or written to.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"one {what} at a time writes to a folder", got=str(folder),
                         fix="Wait for the other one, or choose another folder with --out") from error
    except OSError as error:
        raise _unusable(folder, error) from error
    return lock


def _unusable(folder: Path, error: OSError) -> InputError:
    return InputError("the output folder can be made and written to", got=phrase(f"{folder}: {error.strerror}"),
                      fix="Choose another place with --out")
