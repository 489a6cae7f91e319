"""Everything that can be checked before the first run: data, builder, arms, loss and metric, tried on a few examples."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import FAILURES, InputError, phrase
from dropkit.study.arms import ArmSpec, Builder, build_arm, make_arms
from dropkit.study.augmentation import check_augmentation
from dropkit.study.budget import check_model, check_recipe, steps_an_epoch, with_budget
from dropkit.study.custom import check_own, fit_of, own_data, own_part
from dropkit.study.data import Data, load
from dropkit.study.experiment import Experiment
from dropkit.study.holdout import set_aside
from dropkit.study.misfits import misfits, note_ranks, told
from dropkit.study.networks import Recurrent, mlp
from dropkit.study.objectives import loss_of, metric_of
from dropkit.study.partition import Partition, partition, standardise
from dropkit.study.recipe import Recipe
from dropkit.study.result import Arm
from dropkit.study.unset import truthful, unset_sites, unset_words

_MOST_OUTPUTS = 1 << 31  # bytes


@dataclass(frozen=True)
class Prepared:
    """An experiment made ready: data read, builder chosen, arms with their rates, loss and metric as functions."""

    instrumented: ClassVar[bool] = True  # whether the instruments are read while it trains
    experiment: Experiment
    data: Data
    builder: Builder
    arms: list[Arm]
    loss_name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    metric_name: str
    metric: Callable[[Tensor, Tensor], float]
    higher_is_better: bool
    n_outputs: int
    cautions: list[str] = field(default_factory=list)  # what was found in the models; only where they were tried

    def arm(self, name: str) -> Arm:
        """Return the arm called ``name``."""
        return next(arm for arm in self.arms if arm.name == name)

    def part(self, seed: int) -> Partition:
        """Return the data split by ``seed`` and standardised by its training part."""
        if self.experiment.train is not None:
            return own_part(self.data)
        return standardise(partition(self.data, seed), self.data.task)


def prepare(experiment: Experiment, arms: ArmSpec | None = None, *, check: bool = True, data: Data | None = None) -> Prepared:
    """Read the data, choose the builder, make the arms, and try each arm on a few examples.

    Args:
        experiment: what to train.
        arms: as `make_arms` takes them.
        check: try every arm's model, loss and metric; worker processes skip what the driver has tried.
        data: what another process made of the experiment's data, where that was handed over.

    Raises:
        InputError: something in the experiment cannot work; nothing has been written.
    """
    if experiment.train is not None:
        return _prepare_own(experiment, arms)
    data = _data_of(experiment) if data is None else data
    _agree(experiment, data.task)
    n_outputs = _n_outputs(data)
    builder: Builder = experiment.model or _default(data, n_outputs)
    loss_name, loss = loss_of(experiment, data.task)
    metric_name, metric, higher = metric_of(experiment, data.task)
    with torch.random.fork_rng(devices=[]):  # building a model draws its weights; the caller's RNG stays as it was
        n_train = len(partition(data, 0).x_train)
        made = [with_budget(arm, experiment.epochs, steps_an_epoch(n_train, experiment.batch_size))
                for arm in make_arms(experiment, builder, arms)]
        ready = Prepared(experiment, data, builder, made, loss_name, loss, metric_name, metric, higher, n_outputs)
        if check:
            ready = _with_unset(replace(ready, cautions=[said for arm in ready.arms for said in _try(ready, arm)]))
    return ready


def _with_unset(ready: Prepared) -> Prepared:
    """Say what still drops in the arm that sets every rate to 0, and call no arm without dropout then."""
    least = replace(ready.arms[0], sites=[replace(site, p=0.0) for site in ready.arms[0].sites])
    left = unset_sites(lambda: settled_model(ready, least), ready.part(0).x_train[:2])
    if not left:
        return ready
    return replace(ready, arms=[truthful(arm) for arm in ready.arms],
                   cautions=[*ready.cautions, unset_words(left, ready.experiment.rates)])


def _data_of(experiment: Experiment) -> Data:
    data = load(experiment.data, task=experiment.task, target=experiment.target)
    return data if experiment.test_seed is None else set_aside(data, experiment.test_seed)


def _prepare_own(experiment: Experiment, arms: ArmSpec | None) -> Prepared:
    """Make an experiment with its own training function ready: what that does with the models is its own affair."""
    assert experiment.model is not None
    data = own_data(experiment)
    with torch.random.fork_rng(devices=[]):
        made = make_arms(experiment, experiment.model, arms)
        for arm in made:
            check_own(arm)
    loss_name, loss = loss_of(experiment, data.task)
    metric_name, metric, higher = metric_of(experiment, data.task)
    return Prepared(experiment, data, experiment.model, made, loss_name, loss, metric_name, metric, higher, n_outputs=0)


def settled_model(ready: Prepared, arm: Arm) -> nn.Module:
    """Return the model of ``arm`` after a look at two examples, so that lazy layers have their shapes.

    It is the experiment's own model: what the arm's recipe changes in it is left out. The caller's random state is
    left as it is.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build_arm(ready.experiment, ready.builder, replace(arm, recipe=Recipe()), seed=0).eval()
        if ready.experiment.train is None:
            model(ready.part(0).x_train[:2])
    return model


def outputs_of(model: Callable[[Tensor], Any], x: Tensor, targets: Tensor) -> Tensor:
    """Return the model's outputs for ``x``, a column for one-dimensional outputs where targets have one.

    Without this, an (N,) output against (N, 1) targets would broadcast to (N, N) in the loss.
    """
    outputs: Tensor = model(x)
    is_flat = isinstance(outputs, Tensor) and outputs.dim() == 1 and targets.dim() == 2
    return outputs.unsqueeze(1) if is_flat else outputs


def _agree(experiment: Experiment, task: str) -> None:
    of_numbers = ("mse", "l1", "huber", "rmse", "mae")
    for field_name, value in (("loss", experiment.loss), ("metric", experiment.metric)):
        if isinstance(value, str) and (value in of_numbers) != (task == "regression"):
            wanted = "regression" if value in of_numbers else "classification"
            raise InputError(f"{field_name} {value!r} is for {wanted}", got=phrase(f"data for {task}"),
                             fix=f"Choose another {field_name}, or pass task={wanted!r}")


def _default(data: Data, n_outputs: int) -> Builder:
    shape = list(data.x_train.shape[1:])
    if data.task != "sequence":
        return functools.partial(mlp, shape, n_outputs)
    tokens = None
    if not data.x_train.is_floating_point():
        tokens = 1 + max(int(x.max()) for x in (data.x_train, data.x_val, data.x_test) if x is not None)
    if data.y_train.dim() != 2 or len(shape) != (2 if tokens is None else 1) or shape[0] != data.y_train.shape[1]:
        raise InputError("the network for sequences reads token ids (N, T) or numbers (N, T, F) and labels (N, T)",
                         got=phrase(f"x {tuple(data.x_train.shape)} and y {tuple(data.y_train.shape)}"),
                         fix="Pass model= with a builder of your own")
    return functools.partial(Recurrent, tokens or shape[1], n_outputs, embedded=tokens is not None)


def _n_outputs(data: Data) -> int:
    return len(data.classes) if data.classes is not None else int(data.y_train.shape[1])


def _try(ready: Prepared, arm: Arm) -> list[str]:
    """Run an arm's model, loss and metric on a few examples, and return what is to be said of the arm."""
    part = ready.part(0)
    x, y = part.x_train[:8], part.y_train[:8]
    check_recipe(arm, ready.experiment, ready.data)
    check_augmentation(arm.recipe, ready.experiment.augment, x, arm.name)
    model = build_arm(ready.experiment, ready.builder, arm, seed=0)
    check_model(arm, model)
    if fit_of(model) is not None:
        check_own(arm)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError("a model to train has parameters that learn", got=phrase("none with requires_grad=True"),
                         fix="Leave some of them trainable in the builder")
    ranks = note_ranks(model, arm)
    with told(arm):
        outputs = _forward(model, x, y)
    _check_outputs(outputs, ready)
    try:
        loss = ready.loss(outputs, y)
        loss.backward()  # type: ignore[no-untyped-call]
        score = ready.metric(outputs.detach(), y)
    except FAILURES as error:
        raise InputError("loss and metric take (outputs, targets) and can be differentiated",
                         got=phrase(f"{type(error).__name__}: {error}"),
                         fix=f"Outputs are {tuple(outputs.shape)}, targets {tuple(y.shape)} {y.dtype}") from error
    if loss.dim() != 0 or not math.isfinite(float(loss.detach())) or not math.isfinite(score):
        raise InputError("loss and metric of an untrained model are finite scalars",
                         got=phrase(f"loss {loss.detach().tolist()}, metric {score}"),
                         fix="Look at the loss, the metric and the scale of the model's outputs")
    return misfits(arm, ranks)


def _remedy(x: Tensor, error: BaseException) -> str:
    if "dtype" not in str(error):
        return "reshape inside the model where it expects another"
    if x.is_floating_point():
        return "convert inside the model where it expects another"
    return "whole numbers are taken for token ids: pass floats, as in x.astype('float32'), unless an embedding reads them"


def _forward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    try:
        outputs = outputs_of(model.train(), x, y)
    except FAILURES as error:
        raise InputError("the model takes a batch of the data", got=phrase(f"{type(error).__name__}: {error}"),
                         fix=f"One example has shape {tuple(x.shape[1:])} and type {x.dtype}; {_remedy(x, error)}") from error
    if not isinstance(outputs, Tensor):
        raise InputError("the model returns one tensor", got=phrase(type(outputs).__name__),
                         fix="Wrap the model so that it returns the outputs that the loss takes")
    return outputs


def _check_outputs(outputs: Tensor, ready: Prepared) -> None:
    n, needed = outputs.shape[0], ready.n_outputs
    if ready.data.task == "sequence":
        _check_positions(outputs, ready)
    elif ready.data.task == "classification":
        if outputs.dim() != 2 or outputs.shape[1] < max(needed, 2):
            raise InputError(f"labels run up to {needed - 1}, so outputs are (N, {max(needed, 2)}) or wider",
                             got=phrase(f"outputs of shape {tuple(outputs.shape)}"),
                             fix="Widen the last layer, or number the classes from 0 without gaps")
    elif tuple(outputs.shape) != (n, needed):
        raise InputError(f"outputs have the targets' shape (N, {needed})",
                         got=phrase(f"outputs of shape {tuple(outputs.shape)}"),
                         fix=f"Make the last layer give {needed} value(s) an example")


def _check_positions(outputs: Tensor, ready: Prepared) -> None:
    positions, needed = tuple(ready.data.y_train.shape[1:]), max(ready.n_outputs, 2)
    if tuple(outputs.shape[1:-1]) != positions or outputs.shape[-1] < needed:
        wanted = ", ".join(map(str, ("N", *positions, needed)))
        raise InputError(f"labels run up to {ready.n_outputs - 1}, so outputs are ({wanted}) or wider, classes last",
                         got=phrase(f"outputs of shape {tuple(outputs.shape)}"),
                         fix="Give a score for each class at each position; move the classes to the end by movedim(1, -1)")
    size = ready.data.y_train.numel() * outputs.shape[-1] * outputs.element_size()
    if size > _MOST_OUTPUTS:
        raise InputError("a run keeps the outputs of an epoch, 2 GiB at most", got=phrase(f"{size / 2**30:.1f} GiB of them"),
                         fix="Take fewer or shorter sequences, or train by a function of your own (train=)")
