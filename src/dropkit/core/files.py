"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dropkit.core.errors import InputError


def check_place(path: str | os.PathLike[str]) -> Path:
    """Return where a file is to be written, before the work that it is for.

    Args:
        path: the file, which need not exist.

    Raises:
        InputError: there is no such folder, or the path is a folder itself.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError("a file is written to a folder that exists", got=str(target.parent), fix="Make it, or name another")
    if target.is_dir():
        raise InputError("what is written is a file", got=f"{target}, a folder", fix="Name a file in it")
    return target


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` to ``path`` so that no reader ever sees half of it.

    The content goes to a temporary file in the same folder, is flushed to the disk, and takes its name by rename.

    Args:
        path: the file to make or replace.
        content: bytes, or text to be written as UTF-8.

    Returns:
        The path written.

    Raises:
        InputError: as `check_place` does.
        OSError: the folder is not writable, or the disk is full; ``path`` is then as it was before.
    """
    target = check_place(path)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:  # which names the temporary file, and nobody knows that
        raise OSError(error.errno, error.strerror, str(target)) from error
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content.encode() if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)  # mkstemp makes private files; a report is meant to be shared
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target
