"""Experiments that bring their own training: a function of model, arm and seed, or a LightningModule."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import keyed, stream_number
from dropkit.study.arms import build_arm
from dropkit.study.data import Data
from dropkit.study.experiment import Experiment
from dropkit.study.partition import Partition
from dropkit.study.result import Arm, Run

if TYPE_CHECKING:
    from dropkit.study.prepare import Prepared
    from dropkit.study.session import Session

NAMES = ("test", "val", "train")
"""What a training function may return a metric for."""
Fit = Callable[["Session", Callable[[float, float], None]], None]


def own_data(experiment: Experiment) -> Data:
    """Stand in for the data of an experiment whose training function has its own: no examples."""
    nothing = torch.zeros(0, 0)
    return Data(nothing, nothing, nothing, nothing, nothing, nothing, experiment.task or "classification", (),
                "data of the training function", "")


def check_own(arm: Arm) -> None:
    """Refuse what only dropkit's own loop does.

    Args:
        arm: rates and recipe.

    Raises:
        InputError: the arm's recipe changes more than the model.
    """
    beyond = sorted(set(arm.recipe.changes()) - {"variant", "batch_norm"})
    if beyond:
        raise InputError("with your own training an arm changes rates and model, not how it is trained",
                         got=phrase(f"{', '.join(beyond)} in arm {arm.name!r}"),
                         fix="Leave these out, or train a plain module by dropkit's own loop")


def own_part(data: Data) -> Partition:
    """Return the partition of `own_data`."""
    return Partition(*[data.x_train] * 6)


def own_run(ready: Prepared, arm: Arm, seed: int) -> Run:
    """Call the experiment's training function on the arm's model and make a run of the metrics that it returns.

    The model's initial weights and torch's, NumPy's and Python's random state depend on ``seed`` alone; dropout draws from
    keyed masks. So what the function draws is the same in every arm.

    Args:
        ready: the experiment.
        arm: rates and recipe.
        seed: any whole number of at least 0.

    Raises:
        InputError: the function returns something else than finite metrics.
    """
    train = ready.experiment.train
    assert train is not None
    model = build_arm(ready.experiment, ready.builder, arm, seed=stream_number(f"weights:{seed}"))
    _seed_everything(stream_number(f"training:{seed}"))
    with keyed(stream_number(f"masks:{seed}")):
        returned = train(model, arm, seed)
    found = _checked(returned)
    if ready.metric_name == "accuracy" and not all(0 <= value <= 1 for value in found.values()):
        raise InputError("an accuracy is a share in [0, 1]", got=phrase(str(found)),
                         fix="Divide percentages by 100, or give the metric another name and higher_is_better=True")
    known, sign = found.get("train"), 1.0 if ready.higher_is_better else -1.0
    return Run(arm=arm.name, seed=seed, status="finished", train_loss=None, train_metric=None, train_eval_loss=None,
               train_eval_metric=known, val_loss=None, val_metric=found.get("val"), test_loss=None, test_metric=found["test"],
               gap=None if known is None else sign * (known - found["test"]), nll=None, brier=None, ece=None, reliability=None,
               history={})


def fit_of(model: nn.Module) -> Fit | None:
    """Return what trains ``model`` in place of dropkit's own loop: Lightning's Trainer for a LightningModule, else None."""
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    if not names & {("lightning", "LightningModule"), ("pytorch_lightning", "LightningModule")}:
        return None
    from dropkit.integrations.lightning import fit

    return fit


def _seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # the user's function may draw from NumPy's old global state


def _checked(returned: Any) -> dict[str, float]:
    if not isinstance(returned, Mapping) or "test" not in returned or not set(returned) <= set(NAMES):
        raise InputError('train returns a dictionary with "test" and optionally "val" and "train"',
                         got=phrase(f"keys {sorted(map(str, returned))}" if isinstance(returned, Mapping)
                                    else type(returned).__name__),
                         fix='Return for example {"test": 0.93, "val": 0.95}')
    found = {}
    for name, value in returned.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError):
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise InputError("the metrics that train returns are finite numbers", got=phrase(f"{value!r} for {name!r}"),
                             fix="For a run that diverged return the score of the best constant prediction")
    return found
