"""What a study trains: a model builder, data, and how to train and score it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate
from dropkit.study.targets import TASKS

LOSSES = ("cross_entropy", "mse", "l1", "huber")
METRICS = {"accuracy": True, "nll": False, "perplexity": False, "rmse": False, "mae": False}  # name -> is higher better
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A model, data, and the training recipe that every arm of a study shares.

    Only ``data`` is required, or ``train`` and ``model`` in its place: without ``model`` a multilayer perceptron with two
    hidden layers of 256 units and dropout 0.5 after each is trained, for sequences an LSTM with dropout before and after it.
    Every other field has a default that suits small to middling problems.

    Args:
        data: the name of an embedded set (``"digits"``, ``"breast_cancer"``, ``"wine"``, ``"iris"``, ``"diabetes"``), the path
            of a CSV, Parquet, NPZ or IDX file or folder, a pair ``(x, y)`` of tensors or arrays, a map-style ``torch``
            Dataset, or a dictionary with ``"train"`` and optionally ``"val"`` and ``"test"`` of those. What is missing is
            split off by seed. None with ``train``.
        model: a callable that builds a fresh, untrained ``nn.Module``. Its dropout sites are found and their rates set for each
            arm; called without arguments, or with the arguments named in ``rates``. A ``LightningModule`` is trained by
            Lightning's Trainer, by its own ``training_step`` and optimisers.
        train: a function ``(model, arm, seed) -> {"test": metric, "val": metric, "train": metric}``, the last two optional,
            that trains the arm's model on data of its own in place of dropkit's loop; fields about data, loss and optimiser
            then mean nothing, and ``metric`` is the name of what it returns.
        rates: builder arguments that are dropout rates, with their intended values in [0, 1]; for models whose dropout is a
            functional call. Each arm then calls the builder with its own rates and sets none itself.
        rate: one intended rate in [0, 1] for every site, instead of those the builder gives.
        task: ``"classification"``, ``"regression"``, or ``"sequence"`` for a label at each position: targets (N, T), -100 where
            there is none, and outputs (N, T, K). By default told from the targets' type (integers and text are classes).
        target: the column of a table to predict; the last one by default.
        loss: ``"cross_entropy"``, ``"mse"``, ``"l1"``, ``"huber"`` or a callable ``(outputs, targets) -> scalar``. Regression
            targets are standardised by the training part's mean and standard deviation before the loss.
        metric: ``"accuracy"``, ``"nll"``, ``"perplexity"`` (exp of NLL), ``"rmse"``, ``"mae"`` or a callable
            ``(outputs, targets) -> float``, in the targets' own unit; by default accuracy or RMSE. Of sequences all positions
            with a label count alike; a callable is given the others, too, with targets of -100, and leaves them out itself.
        higher_is_better: needed with a callable ``metric``.
        optimizer: ``"adam"``, ``"adamw"``, ``"sgd"`` (momentum 0.9), ``"rmsprop"``, or a callable ``parameters -> Optimizer``.
        augment: a function ``(x, generator) -> x`` of a batch of standardised inputs, applied in training by arms that say
            ``augment``; what is random in it comes from the ``torch.Generator``, which depends on seed and step alone.
        lr: learning rate, above 0; unused with a callable optimizer.
        weight_decay: at least 0; unused with a callable optimizer.
        epochs: passes over the training data, at least 1; every arm gets the same.
        batch_size: examples a step, at least 1. A last batch of a single example is left out (BatchNorm cannot take it).
        margin: the smallest difference of the metric worth having, above 0. By default 0.005 for accuracy, otherwise 1 % of the
            reference arm's mean.
        test_seed: splits off the test part, where the data brings none, by this seed alone: the same examples whatever the
            run's seed, which then splits the rest. By default every seed splits off its own.
        name: what the report calls the experiment.

    Raises:
        InputError: a field breaks its rule.

    Example:
        >>> from torch import nn
        >>> import dropkit as dk
        >>> def build():
        ...     return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))
        >>> dk.Experiment(model=build, data="digits", epochs=20).epochs
        20
    """

    data: Any = None
    model: Callable[..., nn.Module] | None = None
    train: Callable[[nn.Module, Any, int], Mapping[str, float]] | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    rate: float | None = None
    task: str | None = None
    target: str | None = None
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None
    metric: str | Callable[[Tensor, Tensor], float] | None = None
    higher_is_better: bool | None = None
    optimizer: str | Callable[[Any], Optimizer] = "adam"
    augment: Callable[[Tensor, Generator], Tensor] | None = None
    lr: float = 1e-3
    weight_decay: float = 0.0
    epochs: int = 40
    batch_size: int = 64
    margin: float | None = None
    test_seed: int | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise InputError("name is text, which the report shows", got=self.name, fix="Put it into quotes")
        if not isinstance(self.rates, Mapping):
            raise InputError("`rates` maps arguments of a model builder to rates", got=self.rates,
                             fix='Pass for example rates={"p": 0.5}')
        _check_source(self)
        _check_builder(self)
        _check_choice("task", self.task, TASKS)
        _check_choice("loss", self.loss, LOSSES)
        if self.train is None:
            _check_choice("metric", self.metric, tuple(METRICS))
        _check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if self.augment is not None and not callable(self.augment):
            raise InputError("augment is a function (x, generator) -> x", got=self.augment, fix="Pass one, or leave it out")
        if callable(self.metric) and self.higher_is_better is None:
            raise InputError("a metric of your own says which way is better", got=phrase("higher_is_better=None"),
                             fix="Pass higher_is_better=True or False")
        _check_number("epochs", self.epochs, int, 1)
        _check_number("batch_size", self.batch_size, int, 1)
        _check_number("lr", self.lr, float, 0.0, strict=True)
        _check_number("weight_decay", self.weight_decay, float, 0.0)
        if self.margin is not None:
            _check_number("margin", self.margin, float, 0.0, strict=True)
        if self.test_seed is not None:
            _check_number("test_seed", self.test_seed, int, 0)
        if self.rate is not None:
            check_rate(self.rate)


def _check_source(experiment: Experiment) -> None:
    if experiment.train is None:
        if experiment.data is None:
            raise InputError("an experiment has data, or a training function of its own", got=phrase("neither"),
                             fix='Pass data="digits", or train= and model=')
        return
    if not callable(experiment.train) or experiment.data is not None or experiment.model is None:
        raise InputError("train is a function that brings its own data and is given models of a builder",
                         got=phrase(f"train={type(experiment.train).__name__}, data={type(experiment.data).__name__}, "
                                    f"model={type(experiment.model).__name__}"),
                         fix="Pass train= and model=, and leave data out")
    if not isinstance(experiment.metric, str) or (experiment.metric not in METRICS and experiment.higher_is_better is None):
        raise InputError("with train, metric names what it returns, and higher_is_better says which way is better",
                         got=phrase(f"metric={experiment.metric!r}, higher_is_better={experiment.higher_is_better}"),
                         fix='Pass for example metric="accuracy", or metric="bleu" and higher_is_better=True')


def _check_builder(experiment: Experiment) -> None:
    for value in experiment.rates.values():
        check_rate(value)
    if experiment.model is None:
        if experiment.rates:
            raise InputError("`rates` names arguments of a model builder", got=phrase("rates without model"),
                             fix="Pass model=, or rate= for the default network")
        return
    if isinstance(experiment.model, nn.Module) or not callable(experiment.model):
        raise InputError("model is a callable that builds a fresh nn.Module", got=phrase(type(experiment.model).__name__),
                         fix="Pass the function that builds it, for example `lambda: Net()`, so that every run starts anew")
    _check_signature(experiment.model, experiment.rates)


def _check_signature(builder: Callable[..., Any], rates: Mapping[str, float]) -> None:
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):  # some builtins have none; calling them will tell
        return
    try:
        signature.bind(**rates)
    except TypeError as error:
        name = getattr(builder, "__name__", type(builder).__name__)
        raise InputError("the model builder can be called with no arguments but those in `rates`",
                         got=phrase(f"{name}{signature}: {error}"),
                         fix="Give its other arguments defaults, or name the dropout rates among them in rates={...}",
                         ) from error


def _check_choice(field_name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value is None or callable(value) or (isinstance(value, str) and value in choices):
        return
    kind = "one of " + ", ".join(choices)
    raise InputError(f"{field_name} is {kind}" + ("" if field_name == "task" else " or a callable"), got=value,
                     fix=f"Choose {kind}")


def _check_number(name: str, value: Any, kind: type, low: float, *, strict: bool = False) -> None:
    right_type = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if right_type and (value > low if strict else value >= low) and value != float("inf"):
        return
    sort = "a whole number" if kind is int else "a finite number"
    raise InputError(f"{name} is {sort} {'above' if strict else 'of at least'} {low:g}", got=value,
                     fix=f"Pass such a number as {name}")
