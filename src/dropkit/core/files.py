"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` to ``path`` so that no reader ever sees half of it.

    The content goes to a temporary file in the same folder, is flushed to the disk, and takes its name by rename.

    Args:
        path: the file to make or replace; its folder must exist.
        content: bytes, or text to be written as UTF-8.

    Returns:
        The path written.

    Raises:
        OSError: the folder is missing, not writable, or the disk is full; ``path`` is then as it was before.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
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
