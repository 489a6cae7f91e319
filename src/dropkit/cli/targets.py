"""Models and their inputs by name, for ``dropkit audit``."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.audit.builders import Builder, as_built
from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.objects import find_object

_SHAPE = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>\d+(?:,\d+)*)?(?::(?P<type>\w+))?(?::(?P<low>[^.:]*(?:\.\d+)?)\.\."
                    r"(?P<high>.+))?")
_HOW = "Write a shape such as 2,3,224,224 or 2,16:int64:0..1000, with NAME= before it for a keyword"


def find_target(target: str) -> nn.Module | Builder:
    """The model, or the function that builds it, that a target names.

    Args:
        target: ``module:object``, ``file.py:object`` or ``transformers:TYPE``.

    Raises:
        InputError: there is no such thing, or it is neither.
    """
    place, colon, _ = target.rpartition(":")
    if not colon:
        raise InputError("a model is named as module:build", got=target,
                         fix="Name the function that builds it, such as net.py:build, or add --static to audit source code")
    if place == "transformers":
        from dropkit.cli.targets_transformers import Configured

        return Configured(target.partition(":")[2])
    found = find_object(target)
    if not isinstance(found, nn.Module) and not callable(found):
        raise InputError(f"{target} is a model or builds one", got=phrase(type(found).__name__), fix="Name a function")
    built: nn.Module | Builder = found
    return built


def find_inputs(model: nn.Module | Builder, shapes: list[str], factory: str | None) -> Any:
    """What a model is called with: a tensor, a tuple of positional inputs, or a dict of keywords.

    Args:
        model: it, or what builds it, for the inputs of ``transformers`` models.
        shapes: as ``--input`` takes them.
        factory: ``module:function``, as ``--inputs`` takes it.

    Raises:
        InputError: nothing or both are given, or a shape cannot be read.
    """
    if factory is not None and shapes:
        raise InputError("inputs are given by --input or by --inputs", got=phrase("both"), fix="Leave one out")
    if factory is not None:
        found = find_object(factory)
        return _built(found, factory) if callable(found) and not isinstance(found, Tensor) else found
    if not shapes:
        built = as_built(model)[1]
        if hasattr(built, "main_input_name") and importlib.util.find_spec("transformers") is not None:
            from dropkit.cli.targets_transformers import inputs

            return inputs(built)
        raise InputError("a model is called with something", got=phrase("no --input"), fix=_HOW)
    return _together([make_input(text, seed) for seed, text in enumerate(shapes)])


def make_input(text: str, seed: int = 0) -> tuple[str | None, Tensor]:
    """The tensor that a shape names, and its keyword if it has one.

    Args:
        text: ``[NAME=]SHAPE[:TYPE[:LOW..HIGH]]``. Whole numbers are uniform in [LOW, HIGH), by default 0..2; others are
            normal, or uniform if there is a range. Without digits it is a number on its own.
        seed: of the values. Default: 0.

    Example:
        >>> name, ids = make_input("ids=2,16:int64:0..1000")
        >>> name, tuple(ids.shape), ids.dtype, bool((ids < 1000).all())
        ('ids', (2, 16), torch.int64, True)
    """
    match = _SHAPE.fullmatch(text.replace(" ", ""))
    kind = getattr(torch, (match and match["type"]) or "float32", None)
    if match is None or not isinstance(kind, torch.dtype) or not text:
        raise InputError("an input is a shape, a type and a range", got=text, fix=_HOW)
    shape = [int(size) for size in (match["shape"] or "").split(",") if size]
    limits = None if match["high"] is None else _limits(text, match["low"], match["high"])
    try:
        return match["name"], _values(shape, kind, limits, torch.Generator().manual_seed(seed))
    except (RuntimeError, ValueError, OverflowError, TypeError, MemoryError) as error:  # too large, no range, another kind
        why = str(error).partition("\n")[0]
        raise InputError("torch makes an input of that shape, type and range", got=phrase(f"{text}, for which it says: {why}"),
                         fix=_HOW) from error


def _values(shape: list[int], kind: torch.dtype, limits: tuple[float, float] | None, generator: torch.Generator) -> Tensor:
    if kind.is_floating_point or kind.is_complex:
        if limits is None:
            return torch.randn(shape, generator=generator).to(kind)
        return (limits[0] + (limits[1] - limits[0]) * torch.rand(shape, generator=generator)).to(kind)
    low, high = limits or (0, 2)
    return torch.randint(int(low), int(high), shape, generator=generator).to(kind)


def _limits(text: str, low: str, high: str) -> tuple[float, float]:
    try:
        found = float(low), float(high)
    except ValueError:
        found = 0.0, 0.0
    if not found[0] < found[1]:
        raise InputError("a range goes from a number to a larger one", got=text, fix="Write it as 0..1000")
    return found


def _together(made: list[tuple[str | None, Tensor]]) -> Any:
    named = {name: value for name, value in made if name is not None}
    if named and len(named) < len(made):
        raise InputError("either all inputs have names, each its own, or none has",
                         got=phrase(f"{len(made)} inputs, {len(named)} names"), fix="Name all of them")
    return named or (made[0][1] if len(made) == 1 else tuple(value for _, value in made))


def _built(builder: Any, reference: str) -> Any:
    if not callable(builder):
        raise InputError(f"{reference} can be called", got=phrase(type(builder).__name__), fix="Name a function")
    try:
        return builder()
    except FAILURES as error:  # a user's function may raise anything
        raise InputError(f"{reference} can be called with no arguments", got=phrase(f"{type(error).__name__}: {error}"),
                         fix="Correct the function; calling it by itself shows where it fails") from error
