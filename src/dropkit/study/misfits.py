"""Sites where an arm's variant of dropout cannot act as it is meant to: told once, before the first run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from dropkit.catalog import CATALOG
from dropkit.study.result import Arm
from dropkit.study.wording import count
from dropkit.surgery.modules import walk

_MEANT = {"dropout1d": (3, "(N, C, L)"), "dropout2d": (4, "(N, C, H, W)"), "dropout3d": (5, "(N, C, D, H, W)")}
_MODULES = {row.name: row.module for row in CATALOG if row.name in _MEANT}
_REMARK = r"dropout[23]d: Received a \d+-D input"  # how the variants' own warnings begin

Ranks = dict[str, int]  # by a site's path, how many dimensions its inputs have


def note_ranks(model: nn.Module, arm: Arm) -> Ranks:
    """Return what a forward fills with the sites of the arm's variant whose inputs lay out channels otherwise.

    Args:
        model: the arm's, made to be tried and thrown away: its modules get hooks.
        arm: rates and recipe.

    Example:
        >>> import torch
        >>> from dropkit.study.recipe import Recipe
        >>> model = nn.Sequential(_MODULES["dropout1d"](0.5), nn.Flatten(), _MODULES["dropout1d"](0.5))
        >>> found = note_ranks(model, Arm("channels", "", [], Recipe(variant="dropout1d")))
        >>> _ = model(torch.ones(2, 3, 4))
        >>> found
        {'2': 2}
    """
    found: Ranks = {}
    kind = arm.recipe.variant
    names = {module: name for name, module in walk(model) if kind in _MEANT and type(module) is _MODULES[kind]}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() != _MEANT[str(kind)][0]:
            found[names[module]] = inputs[0].dim()

    for module in names:
        module.register_forward_pre_hook(note)
    return found


def misfits(arm: Arm, found: Ranks) -> list[str]:
    """Return a caution for each number of dimensions that the arm's variant is not made for.

    Args:
        arm: rates and recipe.
        found: what `note_ranks` returned, after a forward.

    Example:
        >>> from dropkit.study.recipe import Recipe
        >>> arm = Arm("channels", "", [], Recipe(variant="dropout2d"))
        >>> misfits(arm, {"3": 2})[0].partition(": ")[0]
        "In arm 'channels' dropout2d at '3' gets inputs of 2 dimensions, not (N, C, H, W)"
    """
    kind = arm.recipe.variant
    if kind not in _MEANT:
        return []
    alike = {rank: [name for name in found if found[name] == rank] for rank in found.values()}
    return [f"In arm {arm.name!r} {kind} at {', '.join(map(repr, names))} gets inputs of {count(rank, 'dimension')}, not "
            f"{_MEANT[kind][1]}: {_effect(kind, rank)}. Leave the arm out, or judge by it the model's other sites alone."
            for rank, names in alike.items()]


@contextmanager
def told(arm: Arm) -> Iterator[None]:
    """Keep the variant's own warnings quiet, which would come from the depths of every process: a caution says it once.

    Args:
        arm: whose model runs inside the ``with``; warnings in other arms' are left as they are.
    """
    if arm.recipe.variant not in _MEANT:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _REMARK, UserWarning)
        yield


def _effect(kind: str, rank: int) -> str:
    if kind != "dropout2d":
        return "they are read as one example without a batch, and whole examples are dropped"
    if rank == 2:
        return "single elements are dropped there, as at the same rates without the variant"
    return "whole slices along dimension 1 are dropped, whatever stands there"
