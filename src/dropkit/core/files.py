"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` so that no reader ever sees half of it.

    The text goes to a temporary file in the same folder, is flushed to the disk, and takes its name by rename.

    Args:
        path: the file to make or replace; its folder must exist.
        text: the content, written as UTF-8.

    Returns:
        The path written.

    Raises:
        OSError: the folder is missing, not writable, or the disk is full; ``path`` is then as it was before.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)  # mkstemp makes private files; a report is meant to be shared
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target
