"""Whether an arm's recipe fits the experiment, and what the arm spends, before anything is trained."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.study.data import Data
from dropkit.study.experiment import Experiment
from dropkit.study.remedies import MovingRates
from dropkit.study.result import Arm
from dropkit.study.wording import count
from dropkit.variants.max_norm import MaxNorm


def check_recipe(arm: Arm, experiment: Experiment, data: Data) -> None:
    """Refuse a recipe that the experiment cannot follow.

    Args:
        arm: rates and recipe.
        experiment: what is trained.
        data: what it is trained on.

    Raises:
        InputError: with what does not fit.
    """
    recipe, loss = arm.recipe, experiment.loss or ("mse" if data.task == "regression" else "cross_entropy")
    own = "an optimiser of your own" if callable(experiment.optimizer) else None
    _fits(arm, recipe.weight_decay is None or own is None, "weight_decay is set where dropkit makes the optimiser", str(own),
          "Name the optimiser, such as optimizer='sgd'")
    _fits(arm, recipe.label_smoothing == 0 or loss == "cross_entropy", "label_smoothing is for cross entropy", f"loss {loss}",
          "Leave the loss out for a classification")
    _fits(arm, recipe.members <= experiment.epochs, "each member of an ensemble trains for an epoch or more",
          f"{recipe.members} members in {experiment.epochs} epochs", "Raise epochs, or lower members")
    _fits(arm, not recipe.batch_norm or experiment.batch_size > 1, "batch_norm needs two examples a batch", "batch_size=1",
          "Raise batch_size")


def check_model(arm: Arm, model: nn.Module) -> None:
    """Refuse a recipe that has nothing to act on in the arm's model.

    Args:
        arm: rates and recipe.
        model: as `build_arm` made it.

    Raises:
        InputError: with what is missing.
    """
    if arm.recipe.max_norm is not None:
        MaxNorm(model, arm.recipe.max_norm)
    if arm.recipe.schedule is not None:
        _fits(arm, bool(MovingRates(model, arm, 1).sites), "a schedule moves the rates of dropout modules",
              "a model without any that can be set", "Build the model with nn.Dropout instead of functional calls")


def with_budget(arm: Arm, epochs: int, steps: int) -> Arm:
    """Return the arm with its description ended by what it spends.

    Args:
        arm: rates and recipe.
        epochs: of the experiment.
        steps: of the optimiser in an epoch.

    Example:
        >>> from dropkit.study.recipe import Recipe
        >>> with_budget(Arm("four", "no dropout", [], Recipe(members=4)), epochs=40, steps=17).description
        'no dropout; 4 networks, each 10 epochs of 17 steps, 680 steps in all'
    """
    members = arm.recipe.members
    each = epochs // members
    who = f"{members} networks, each " if members > 1 else ""
    most = "at most " if arm.recipe.early_stopping else ""
    spent = f"{who}{most}{count(each, 'epoch')} of {count(steps, 'step')}, {count(members * each * steps, 'step')} in all"
    return replace(arm, description=f"{arm.description}; {spent}")


def steps_an_epoch(n: int, size: int) -> int:
    """Return how many batches ``n`` examples make, ``size`` at a time; a last batch of one is left out.

    Example:
        >>> steps_an_epoch(9, 4), steps_an_epoch(10, 4), steps_an_epoch(1, 4)
        (2, 3, 1)
    """
    whole, rest = divmod(n, size)
    return whole + (rest > 1 or n == 1 < size)


def _fits(arm: Arm, fine: bool, rule: str, got: str, fix: str) -> None:
    if not fine:
        raise InputError(rule, got=phrase(f"{got}, in arm {arm.name!r}"), fix=fix)
