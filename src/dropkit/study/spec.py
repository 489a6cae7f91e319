"""What a user says of an arm, before a model is known: rates, and changes to the training recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.study.readers import nearest
from dropkit.study.recipe import Recipe

CHANGES = tuple(item.name for item in fields(Recipe))
_OF_DROPOUT = ("variant", "schedule", "classic")  # changes of dropout itself, which mean nothing where nothing drops


@dataclass(frozen=True)
class Spec:
    """An arm as it was asked for; `dropkit.arm` makes one.

    Args:
        rates: a factor of at least 0 on every intended rate, or {glob: rate in [0, 1]}.
        recipe: changes to the training recipe.
        against: the name of the arm that it is compared with; None: the study's reference.
    """

    rates: float | Mapping[str, float]
    recipe: Recipe = field(default_factory=Recipe)
    against: str | None = None


def arm(rates: float | Mapping[str, float] | None = None, *, against: str | None = None, **changes: Any) -> Spec:
    """Describe an arm of a study that changes more than the rates.

    Args:
        rates: a factor of at least 0 on every intended rate (1: as intended, 0: no dropout), or {glob: rate in [0, 1]}. Left
            out, it is 1 for arms that change dropout itself (``variant``, ``schedule``, ``classic``) or name no change, and 0
            for all others, which dropout is compared with, also where they set a field to what changes nothing.
        against: the name of the arm that it is compared with; the study's reference by default.
        **changes: fields of the recipe. ``weight_decay``, ``label_smoothing``, ``max_norm``, ``noise`` (standard deviation
            added to standardised inputs), ``shift`` (pixels) and ``early_stopping`` (epochs of patience) are numbers; ``flip``,
            ``augment``, ``batch_norm`` and ``classic`` are true or false; ``variant`` is a name of `dropkit.catalog`,
            ``schedule`` the text of a schedule that multiplies the rates, ``members`` the number of networks of an ensemble
            that costs as much as the others.

    Raises:
        InputError: there is no such field, or one breaks its rule.

    Example:
        >>> arm(1.0, weight_decay=1e-3).recipe.words(), arm(weight_decay=1e-3).rates, arm(variant="gaussian_dropout").rates
        ('weight decay 0.001', 0.0, 1.0)
    """
    for name in changes:
        if name not in CHANGES:
            raise InputError("an arm changes fields of the recipe", got=name, fix=nearest(name, CHANGES))
    recipe = Recipe(**changes)
    if rates is None:
        rates = 1.0 if not changes or any(name in changes for name in _OF_DROPOUT) else 0.0
    if against is not None and not isinstance(against, str):
        raise InputError("against is the name of an arm", got=phrase(repr(against)), fix='Pass for example against="intended"')
    return Spec(rates, recipe, against)
