"""Objects by name: ``package.module:object`` or ``file.py:object``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dropkit.core.errors import FAILURES, InputError, phrase


def find_object(reference: str) -> Any:
    """Return what ``module:object`` or ``file.py:object`` names.

    Args:
        reference: the module, importable from the current folder or the Python path, or the path of a file, and the object.

    Raises:
        InputError: there is no such thing, or it cannot be imported.
    """
    place, colon, name = reference.rpartition(":")
    if not colon:
        raise InputError("an object is named as module:object or file.py:object", got=reference,
                         fix="Name the module or file and the object in it, as in net.py:build")
    module = _module_from_file(Path(place)) if place.endswith(".py") else _module_by_name(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"{place} holds the object that is named", got=name, fix=f"It holds {_public(module)}")
        found = getattr(found, part)
    return found


def _module_from_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise InputError("the file before the colon exists", got=str(file), fix="Check the path before the colon")
    # A name of its own, so that a user's `random.py` or `torch.py` hides nothing.
    name = f"dropkit_user_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError("the file before the colon is Python source", got=str(file), fix="Name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    prepend(file.resolve().parent)
    _run(lambda: spec.loader.exec_module(module) if spec.loader else None, str(file))
    return module


def _module_by_name(place: str) -> ModuleType:
    prepend(Path.cwd())
    try:
        found = importlib.util.find_spec(place) if place else None
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise InputError("the module before the colon can be imported", got=place,
                         fix="Give a module on the Python path, or a path ending in .py before the colon")
    module: ModuleType = _run(lambda: importlib.import_module(place), place)
    return module


def _run(load: Any, place: str) -> Any:
    try:
        return load()
    except InputError:
        raise
    except FAILURES as error:
        fix = ('Call what ends the program under `if __name__ == "__main__":` alone' if isinstance(error, SystemExit) else
               "Correct the file; running it with python shows where it fails")
        raise InputError(f"{place} can be imported", got=phrase(f"{type(error).__name__}: {error}"), fix=fix) from error


def prepend(folder: Path) -> None:
    """Let modules be found in a folder, too, before all others.

    Args:
        folder: as an absolute path.
    """
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _public(module: ModuleType) -> str:
    names = [name for name in vars(module) if not name.startswith("_")]
    return ", ".join(names[:12]) or "nothing"
