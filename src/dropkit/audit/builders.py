"""Functions that build models, and their arguments that are rates."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from dropkit.core.errors import FAILURES, InputError, phrase

Builder = Callable[..., nn.Module]
NEEDED = 0.1  # a rate for an argument that has no default


def rate_arguments(build: Builder, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """The arguments of a builder that are rates.

    Args:
        build: a function that returns a model, or a class of models.
        names: of the arguments. Default: those whose names contain "drop" and whose defaults are rates, or that have none.

    Raises:
        InputError: the builder has no argument of a given name.

    Example:
        >>> rate_arguments(lambda width=8, dropout=0.1, drop_last=True: nn.Dropout(dropout))
        ('dropout',)
    """
    known = _parameters(build)
    if names is None:
        return tuple(name for name, default in known.items() if "drop" in name.lower() and (
            default is inspect.Parameter.empty or is_rate(default)))
    given = (names,) if isinstance(names, str) else tuple(names)
    for name in given:
        if name not in known and not takes_any(build):
            raise InputError("rates are arguments of the builder", got=name, fix=f"It takes {', '.join(known) or 'none'}")
    return given


def is_rate(value: Any) -> bool:
    """Whether a value can be a rate: a number from 0 to below 1.

    Args:
        value: anything.

    Example:
        >>> is_rate(0.1), is_rate(True), is_rate(7)
        (True, False, False)
    """
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 1


def takes_any(build: Builder) -> bool:
    """Whether a builder takes arguments that it does not name.

    Args:
        build: as in `rate_arguments`.
    """
    return any(found.kind is found.VAR_KEYWORD for found in _signature(build))


def as_built(model: Any, names: Iterable[str] | None = None) -> tuple[Builder | None, Any, tuple[str, ...]]:
    """What builds a model, the model, and the builder's arguments that are rates.

    Args:
        model: the model, or what builds it; what is neither comes back as the model.
        names: as in `rate_arguments`.

    Raises:
        InputError: the builder fails, or names are given without a builder.
    """
    if isinstance(model, nn.Module) or not callable(model):
        if names is not None:
            raise InputError("rates are arguments of a builder", got=phrase("a model that is built"),
                             fix="Give the function that builds it, or leave out the rates")
        return None, model, ()
    rates, known = rate_arguments(model, names), _parameters(model)
    needed = {name: NEEDED for name in rates if known.get(name) is inspect.Parameter.empty}
    return model, make(model, needed), rates


def make(build: Builder, rates: Mapping[str, float]) -> nn.Module:
    """Call a builder.

    Args:
        build: as in `rate_arguments`.
        rates: by name.

    Raises:
        InputError: it fails, or returns no module.
    """
    named = getattr(build, "__name__", type(build).__name__)
    shown = f"{named}({', '.join(f'{name}={rate:g}' for name, rate in rates.items())})"
    try:
        model = build(**rates)
    except FAILURES as error:  # a user's function may raise anything
        raise InputError(f"{shown} builds a model", got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Correct it; calling it by itself shows where it fails") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{shown} returns a torch.nn.Module", got=phrase(type(model).__name__), fix="Return the model")
    return model


def _signature(build: Builder) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(build).parameters.values())
    except (TypeError, ValueError):  # written in C
        return []


def _parameters(build: Builder) -> dict[str, Any]:
    return {found.name: found.default for found in _signature(build)
            if found.kind in (found.POSITIONAL_OR_KEYWORD, found.KEYWORD_ONLY)}
