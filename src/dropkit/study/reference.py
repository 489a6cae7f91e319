"""Experiments by name: ``digits``, ``data.csv``, ``experiment.yaml``, ``package.module:object`` or ``file.py:object``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.experiment import Experiment
from dropkit.study.experiment_file import ENDINGS, read_experiment
from dropkit.study.objects import find_object


def find_experiment(reference: str, **options: Any) -> Experiment:
    """Return the experiment that ``reference`` names.

    Args:
        reference: an embedded data set or a data file (the default network is trained on it); a YAML file of an experiment's
            fields (`read_experiment`); or ``module:object`` or ``file.py:object`` where the object is an `Experiment`, a
            function that returns one, or a model builder.
        **options: fields of `Experiment` that replace the named one's; ``data`` is needed with a model builder.

    Raises:
        InputError: there is no such thing, or it is something else.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if not reference.strip():
        raise InputError("an experiment is named by text", got=reference,
                         fix="Name for example digits, data.csv or file.py:build")
    if Path(reference).suffix.lower() in ENDINGS:
        return Experiment(**{"name": Path(reference).stem, **read_experiment(Path(reference)), **given})
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
