"""Experiments by name: ``digits``, ``data.csv``, ``package.module:object`` or ``file.py:object``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.experiment import Experiment


def find_experiment(reference: str, **options: Any) -> Experiment:
    """Return the experiment that ``reference`` names.

    Args:
        reference: an embedded data set or a data file (the default network is trained on it), or ``module:object`` or
            ``file.py:object`` where the object is an `Experiment`, a function that returns one, or a model builder.
        **options: fields of `Experiment` that replace the named one's; ``data`` is needed with a model builder.

    Raises:
        InputError: there is no such thing, or it is something else.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not reference.strip():
        raise InputError("an experiment is named by text", got=reference,
                         fix="Name for example digits, data.csv or file.py:build")
    if ":" not in reference or Path(reference).exists():
        return Experiment(**{"name": Path(reference).stem, "data": reference, **given})
    found = find_object(reference)
    if isinstance(found, Experiment):
        return _with(found, reference, given)
    if not callable(found) or isinstance(found, nn.Module):
        raise InputError(f"{reference} is a dropkit.Experiment, a function that returns one, or a model builder",
                         got=phrase(type(found).__name__), fix="Name such an object")
    if isinstance(found, type) and issubclass(found, nn.Module):
        return _from_builder(found, reference, given)
    try:
        made = found()
    except TypeError as error:  # a builder with rate arguments: Experiment says what is wrong with its signature
        return _from_builder(found, reference, given, error)
    except FAILURES as error:
        raise InputError(f"{reference} can be called", got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Correct the function; calling it by itself shows where it fails") from error
    if isinstance(made, Experiment):
        return _with(made, reference, given)
    return _from_builder(found, reference, given)


def _from_builder(builder: Any, reference: str, given: dict[str, Any], error: Exception | None = None) -> Experiment:
    if "data" not in given:
        if error is not None:
            raise InputError(f"{reference} can be called with no arguments", got=phrase(str(error)),
                             fix="Give its arguments defaults, or return a dropkit.Experiment") from error
        raise InputError("a model builder is studied on data", got=phrase(f"{reference} without data"),
                         fix="Add --data NAME_OR_PATH, or name a dropkit.Experiment instead")
    return Experiment(**{"name": reference.rpartition(":")[2], "model": builder, **given})


def _with(experiment: Experiment, reference: str, given: dict[str, Any]) -> Experiment:
    values = {name: getattr(experiment, name) for name in experiment.__dataclass_fields__}
    values["name"] = values["name"] or reference.rpartition(":")[2]
    return Experiment(**{**values, **given})


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
    _prepend(file.resolve().parent)
    _run(lambda: spec.loader.exec_module(module) if spec.loader else None, str(file))
    return module


def _module_by_name(place: str) -> ModuleType:
    _prepend(Path.cwd())
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


def _prepend(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _public(module: ModuleType) -> str:
    names = [name for name in vars(module) if not name.startswith("_")]
    return ", ".join(names[:12]) or "nothing"
