"""Experiments that are written down in YAML: the fields of `dropkit.Experiment`, what is code by reference."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dropkit.core.errors import InputError, MissingExtraError, phrase
from dropkit.study.experiment import Experiment
from dropkit.study.objects import find_object, prepend
from dropkit.study.readers import EMBEDDED, nearest

ENDINGS = (".yaml", ".yml")
"""Ends of the names of files that hold an experiment."""

_NAMES = tuple(item.name for item in fields(Experiment))
_FLOAT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
_CODE = ("model", "train", "augment")  # always a reference
_MAYBE_CODE = ("loss", "metric", "optimizer")  # one of dropkit's own names, or a reference
_OF_THE_STUDY = ("arms", "seeds", "out", "jobs", "engine", "address", "fused", "tensorboard")


def read_experiment(path: Path) -> dict[str, Any]:
    """Return the fields of `dropkit.Experiment` that a YAML file gives.

    The file holds a mapping of the fields' names. ``model``, ``train``, ``augment`` and, where they are none of dropkit's own,
    ``loss``, ``metric`` and ``optimizer`` are references, ``module:object`` or ``file.py:object``; ``arguments`` maps arguments
    of the model's builder to values; ``data`` is the name of an embedded set, a path, or a mapping of train, val and test to
    paths. Paths are relative to the file's folder.

    Args:
        path: the file.

    Raises:
        InputError: there is no such file, it is no YAML, or it names what there is not.
        MissingExtraError: PyYAML is not installed.
    """
    given = _mapping(path)
    for name in given:
        if name in _OF_THE_STUDY:
            raise InputError(f"{path.name} says what is trained, not how the study goes about it", got=name,
                             fix=f"Leave it out, and pass {name} to the study, as --{name} on the command line")
        if name not in (*_NAMES, "arguments"):
            raise InputError(f"{path.name} holds fields of an experiment", got=name,
                             fix=nearest(str(name), (*_NAMES, "arguments")))
    folder = path.resolve().parent
    found = {name: _value(name, value, folder) for name, value in given.items() if name != "arguments"}
    _check_twice(given)
    if given.get("arguments"):
        found["model"] = _with_arguments(found.get("model"), given["arguments"], path.name)
    return found


def _mapping(path: Path) -> Mapping[Any, Any]:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("yaml", "study") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # which brings no types
        """Takes 1e-3 for a number, which YAML 1.1 does not, and refuses names that come twice, of which it keeps the last."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice} comes twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))
    try:
        given = yaml.load(path.read_bytes(), Loader)  # a SafeLoader: nothing in the file can run
    except FileNotFoundError as error:
        raise InputError("an experiment's file exists", got=str(path), fix="Check the path") from error
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:  # ValueError: a date that is none, say
        raise InputError("an experiment's file is YAML", got=phrase(f"{path.name}: {' '.join(str(error).split())}"),
                         fix="Correct it; every line is a name, a colon, a blank and a value") from error
    if not isinstance(given, Mapping):
        raise InputError(f"{path.name} maps the fields of an experiment to values",
                         got=phrase("nothing" if given is None else type(given).__name__),
                         fix="Write lines such as `data: digits` and `model: net.py:build`")
    return given


def _value(name: str, value: Any, folder: Path) -> Any:
    if name == "data":
        if isinstance(value, Mapping):
            return {part: _place(source, folder) for part, source in value.items()}
        return _place(value, folder)
    if value is not None and (name in _CODE or (name in _MAYBE_CODE and ":" in str(value))):
        return _code(name, value, folder)
    return value


def _place(source: Any, folder: Path) -> Any:
    if not isinstance(source, str) or source in EMBEDDED:
        return source
    path = Path(source).expanduser()
    return str(path if path.is_absolute() else folder / path)


def _code(name: str, value: Any, folder: Path) -> Any:
    if not isinstance(value, str):
        raise InputError(f"{name} is named as module:object or file.py:object", got=value, fix=f"Write {name}: net.py:build")
    prepend(folder)
    place, colon, what = value.rpartition(":")
    return find_object(f"{folder / place}:{what}" if colon and place.endswith(".py") else value)


def _check_twice(given: Mapping[Any, Any]) -> None:
    arguments, rates = ({*held} if isinstance(held := given.get(name), Mapping) else set() for name in ("arguments", "rates"))
    if both := sorted(map(str, arguments & rates)):
        raise InputError("an argument of the builder is a rate that arms set, or a value for all of them", got=both[0],
                         fix="Leave it out of `arguments`, or of `rates`")


def _with_arguments(builder: Any, arguments: Any, file: str) -> Callable[..., Any]:
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise InputError("`arguments` maps arguments of the model's builder to values", got=arguments,
                         fix="Write `arguments: {width: 64}`")
    if not callable(builder):
        raise InputError("`arguments` are those of the model's builder", got=phrase(f"no model in {file}"),
                         fix="Name it, as in `model: net.py:build`")
    try:
        inspect.signature(builder).bind_partial(**arguments)
    except TypeError as error:
        raise InputError("`arguments` are those of the model's builder", got=phrase(str(error).removeprefix("got ")),
                         fix="Correct them, or the builder") from error
    except ValueError:  # some builtins have no signature; calling them will tell
        pass
    return functools.partial(builder, **arguments)
