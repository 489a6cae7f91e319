"""What an arm changes in the training recipe besides its rates: the things that dropout is compared or combined with."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from dropkit.core.errors import InputError, phrase
from dropkit.schedules.text import parse


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Changes to the experiment's own recipe; every default changes nothing.

    Args:
        weight_decay: the optimiser's weight decay, at least 0; None keeps the experiment's.
        label_smoothing: share of the target spread evenly over the classes, in [0, 1); cross entropy only.
        max_norm: largest Euclidean norm of a unit's incoming weights, above 0, enforced after every step; None: no limit.
        early_stopping: stop after this many epochs without a better validation loss and go back to the best epoch; 0: never.
        noise: standard deviation of Gaussian noise added to standardised floating-point inputs in training, at least 0.
        shift: images are moved by up to this many pixels each way in training, at random, their edges repeated; 0: never.
        flip: images are mirrored left to right with probability 1/2 in training.
        augment: batches pass through the experiment's own ``augment`` in training.
        batch_norm: put a BatchNorm behind every linear and convolutional layer but the last.
        variant: name of a catalog row that takes the place of every element-wise dropout module; None keeps them.
        schedule: what multiplies the arm's rates over the steps, as `dropkit schedule` reads it; None keeps them constant.
        members: number of networks whose outputs are averaged, each trained for that part of the epochs; 1: a single one.
        classic: element-wise dropout that leaves kept values as they are in training and multiplies by 1 - p in evaluation.

    Raises:
        InputError: a field breaks its rule.

    Example:
        >>> Recipe(weight_decay=1e-3, members=4).words()
        'weight decay 0.001, ensemble of 4 at equal cost'
    """

    weight_decay: float | None = None
    label_smoothing: float = 0.0
    max_norm: float | None = None
    early_stopping: int = 0
    noise: float = 0.0
    shift: int = 0
    flip: bool = False
    augment: bool = False
    batch_norm: bool = False
    variant: str | None = None
    schedule: str | None = None
    members: int = 1
    classic: bool = False

    def __post_init__(self) -> None:
        decay, norm = self.weight_decay, self.max_norm
        _check("weight_decay", decay, decay is None or (_finite(decay) and decay >= 0), "a finite number of at least 0")
        smooth = _finite(self.label_smoothing) and 0 <= self.label_smoothing < 1
        _check("label_smoothing", self.label_smoothing, smooth, "a number in [0, 1)")
        _check("max_norm", norm, norm is None or (_finite(norm) and norm > 0), "a finite number above 0")
        _check("early_stopping", self.early_stopping, _whole(self.early_stopping, 0), "a whole number of epochs, at least 0")
        _check("noise", self.noise, _finite(self.noise) and self.noise >= 0, "a finite number of at least 0")
        _check("members", self.members, _whole(self.members, 1), "a whole number of at least 1")
        _check("shift", self.shift, _whole(self.shift, 0), "a whole number of pixels, at least 0")
        for name in ("flip", "augment"):
            _check(name, getattr(self, name), isinstance(getattr(self, name), bool), "True or False")
        _check("batch_norm", self.batch_norm, isinstance(self.batch_norm, bool), "True or False")
        _check("classic", self.classic, isinstance(self.classic, bool), "True or False")
        _check("variant", self.variant, self.variant is None or isinstance(self.variant, str), "the name of a variant")
        if self.schedule is not None:
            parse(self.schedule)

    def changes(self) -> dict[str, object]:
        """Return the fields that differ from the defaults, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if getattr(self, item.name) != item.default}

    def words(self) -> str:
        """Return the changes in words, an empty string for none."""
        said = {"weight_decay": "weight decay {:g}", "label_smoothing": "label smoothing {:g}", "max_norm": "max-norm {:g}",
                "early_stopping": "early stopping after {} epochs", "noise": "input noise {:g}",
                "shift": "images shifted by up to {} pixels", "flip": "images mirrored at random",
                "augment": "the experiment's augmentation",
                "batch_norm": "batch normalisation", "variant": "{} in place of dropout", "schedule": "rates on {}",
                "members": "ensemble of {} at equal cost", "classic": "classic scaling"}
        return ", ".join(said[name].format(value) for name, value in self.changes().items())


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check(name: str, value: object, fine: bool, rule: str) -> None:
    if not fine:
        raise InputError(f"{name} is {rule}", got=phrase(repr(value)), fix="Correct this field of the arm's recipe")
