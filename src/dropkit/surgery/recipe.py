"""Change a model in several steps of which all or none happen, and undo them exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.schedules import Schedule, early, late, parse
from dropkit.schedules.base import check_count
from dropkit.surgery.insert import Insertion, insert, remove
from dropkit.surgery.modules import walk
from dropkit.surgery.rates import set_rate
from dropkit.surgery.scheduler import RateScheduler
from dropkit.surgery.sites import Site, format_sites, sites
from dropkit.surgery.sources import Source
from dropkit.surgery.targets import check_model, every_name
from dropkit.variants.max_norm import MaxNorm
from dropkit.variants.recurrent_module import RecurrentSites
from dropkit.variants.recurrent_module import remove as remove_sites
from dropkit.variants.recurrent_swap import make_variational
from dropkit.variants.site import StreamSite


@dataclass(frozen=True)
class PresetSchedule:
    """How a recipe's rate moves over training.

    Args:
        text: a schedule of ``dropkit.schedules`` as text, such as ``"early(0.5, cutoff=50)"``.
        epochs: the length of the published run, where cutoffs count its epochs; None where the schedule stretches over a run.
        scale: what the schedule's rate means: ``"rate"`` of every site, or ``"top"``, of the deepest, others in proportion.

    Example:
        >>> PresetSchedule("early(0.5, cutoff=50)", epochs=300).of(0.5, steps_per_epoch=10)
        early(0.25, 500)
    """

    text: str
    epochs: int | None = None
    scale: str = "rate"

    def of(self, share: float = 1.0, steps_per_epoch: int = 1) -> Schedule:
        """The schedule of a site.

        Args:
            share: the site's part of the rate that the schedule gives.
            steps_per_epoch: how many steps of the scheduler an epoch has.
        """
        schedule = parse(self.text)
        changed = {"cutoff": schedule.cutoff * steps_per_epoch} if isinstance(schedule, early | late) else {}
        scaled = {"rate": schedule.rate * share} if isinstance(schedule, early | late) else {}
        return replace(schedule, **changed, **scaled)

    def __str__(self) -> str:
        return self.text if self.epochs is None else f"{self.text}, of {self.epochs} epochs"


@dataclass(frozen=True)
class AppliedPreset:
    """What a recipe did to a model.

    Args:
        name: of the recipe.
        sites: the sites that it put in or whose rates it set, as they are now.
        source: where it was published.
        schedule: how the rate is to move over training, or None for a constant one; `scheduler` makes it move.
        companion: what goes with it, such as a `MaxNorm` to attach to the optimiser, or None.
        notes: what it could not do, or left to the caller.
    """

    name: str
    sites: tuple[Site, ...]
    source: Source
    schedule: PresetSchedule | None = None
    companion: MaxNorm | None = None
    notes: tuple[str, ...] = ()
    _undo: list[Callable[[], None]] = field(default_factory=list, repr=False, compare=False)

    def undo(self) -> None:
        """Give the model back as it was, trained parameters kept.

        Raises:
            InputError: when it was undone before.
        """
        if not self._undo:
            raise InputError("a preset is undone once", got=phrase(f"{self.name}, which was undone"),
                             fix="Apply it again first")
        while self._undo:
            self._undo.pop()()

    def scheduler(self, model: nn.Module, *, steps_per_epoch: int = 1, steps: int | None = None) -> RateScheduler:
        """What moves the rates as published; its rates of step 0 are set at once.

        Args:
            model: the model that the recipe was applied to, or a wrapper or copy of it.
            steps_per_epoch: how often an epoch calls the scheduler's ``step``: 1, or the number of batches.
            steps: the length of the run in calls of ``step``. Needed where the schedule stretches over the run; otherwise
                that of the published one.

        Raises:
            InputError: for a recipe of constant rates, or without the run's length where it is needed.

        Example:
            >>> import torch
            >>> import dropkit as dk
            >>> model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            >>> put = dk.preset("early_stochastic_depth_vit", model, torch.ones(2, 3, 8))
            >>> scheduler = put.scheduler(model)
            >>> for _ in range(25):
            ...     scheduler.step()
            >>> max(scheduler.rates.values())
            0.25
        """
        if self.schedule is None:
            raise InputError("a recipe with a schedule can be given a scheduler", got=phrase(f"{self.name}, of constant rates"),
                             fix="Make a dropkit.RateScheduler with a schedule of your own")
        check_count(steps_per_epoch, "steps_per_epoch")
        if steps is None and self.schedule.epochs is not None:
            steps = self.schedule.epochs * steps_per_epoch
        top = max(site.p for site in self.sites)
        share = {site.name: site.p / top if self.schedule.scale == "top" else 1.0 for site in self.sites}
        return RateScheduler(model, {name: self.schedule.of(part, steps_per_epoch) for name, part in share.items()},
                             steps=steps)

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.source})", format_sites(self.sites)]
        if self.schedule is not None:
            lines.append(f"schedule: {self.schedule}; .scheduler(model) makes the rates follow it")
        if self.companion is not None:
            lines.append(f"companion: MaxNorm(c={self.companion.c:g}); attach it to the optimiser")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


class Steps:
    """Changes a model step by step; as a context it takes every step back when one fails.

    Args:
        model: the model.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> with Steps(model) as steps:
        ...     steps.insert({"0": nn.Dropout(0.1)})
        ...     steps.set_rate({"1": 0.2})
        >>> [site.p for site in sites(model)]
        [0.1, 0.2]
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.touched: list[nn.Module] = []
        self.notes: list[str] = []
        self.undo: list[Callable[[], None]] = []

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            while self.undo:
                self.undo.pop()()

    def insert(self, placement: Mapping[str, nn.Module], where: str | None = None) -> None:
        """Insert dropout.

        Args:
            placement: as in `dropkit.insert`.
            where: as in `dropkit.insert`.
        """
        put: Insertion = insert(self.model, placement, where=where)
        self.notes.extend(getattr(placement, "notes", ()))
        self.touched.extend(hook.site for hook in put.hooks)
        self.undo.append(lambda: _remove(self.model, put))

    def set_rate(self, rates: Mapping[str, float]) -> None:
        """Set the rates of dropout that is there already.

        Args:
            rates: as in `dropkit.set_rate`.
        """
        modules = dict(walk(self.model))
        previous = set_rate(self.model, rates)
        self.touched.extend(modules[name] for name in previous)
        self.undo.append(lambda: _ignore(set_rate(self.model, previous)))

    def set_between(self, name: str, rate: float, per: str = "step") -> None:
        """Set the rate between the layers of a recurrent module.

        Args:
            name: its path.
            rate: in [0, 1].
            per: how often masks are drawn; for ``"sequence"`` a module of torch becomes dropkit's.
        """
        module = dict(walk(self.model))[name]
        if per == "sequence" and type(module) in (nn.LSTM, nn.GRU, nn.RNN):
            self._convert(module)  # type: ignore[arg-type]
        self.set_rate({f"{name}.between_dropout" if isinstance(module, RecurrentSites) else name: rate})

    def _convert(self, module: nn.RNNBase) -> None:
        kind, before = type(module), module.dropout
        converted: Any = make_variational(module, per="sequence")

        def revert() -> None:
            remove_sites(converted, kind)
            module.dropout = before

        self.undo.append(revert)

    def replace(self, name: str, module: nn.Module) -> None:
        """Put a module that took over a layer in its place, wherever the layer is used.

        Args:
            name: the layer's path.
            module: what replaces it.

        Raises:
            InputError: when the layer is the model itself.
        """
        modules = dict(every_name(self.model))
        layer = modules[name]
        places = [(parent, key) for parent in dict.fromkeys(modules.values()) for key, child in parent._modules.items()
                  if child is layer]
        if not places:
            raise InputError("a layer that is replaced is part of a model", got=phrase(type(layer).__name__),
                             fix="Put it into a module of its own, such as nn.Sequential")
        for parent, key in places:
            parent._modules[key] = module
        if isinstance(module, StreamSite):
            module.stream = name
        self.touched.append(module)
        self.undo.append(lambda: _put_back(places, module, layer))

    def done(self, name: str, source: Source, schedule: PresetSchedule | None = None,
             companion: MaxNorm | None = None) -> AppliedPreset:
        """What was done.

        Args:
            name: of the recipe.
            source: where it was published.
            schedule: of the rate.
            companion: what goes with it.
        """
        touched = tuple(site for site in sites(self.model) if site.module in set(self.touched))
        return AppliedPreset(name, touched, source, schedule, companion, tuple(dict.fromkeys(self.notes)), self.undo)


def begin(model: nn.Module, aware: bool = False) -> Steps:
    """Begin to change a model; dropout that it has before is noted.

    Args:
        model: the model.
        aware: whether the recipe looks at that dropout itself.

    Example:
        >>> begin(nn.Dropout(0.5)).notes
        ["the model drops already: ''"]
    """
    steps = Steps(model)
    there = [site.name for site in sites(model) if site.p > 0]
    if there and not aware:
        steps.notes.append(f"the model drops already: {', '.join(map(repr, there[:4]))}{', ...' if there[4:] else ''}")
    return steps


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by path, each once.

    Args:
        model: any module that is written in Python.

    Example:
        >>> list(modules_of(nn.Sequential(nn.ReLU())))
        ['', '0']
    """
    check_model(model)
    return dict(walk(model))


def names_of(modules: Mapping[str, nn.Module], kind: type[nn.Module]) -> list[str]:
    """The paths of the modules of a kind.

    Args:
        modules: by path.
        kind: a class.

    Example:
        >>> names_of(modules_of(nn.Sequential(nn.ReLU(), nn.Tanh())), nn.Tanh)
        ['1']
    """
    return [name for name, module in modules.items() if isinstance(module, kind)]


def holds(modules: Mapping[str, nn.Module], *kinds: type[nn.Module]) -> bool:
    """Whether one of the modules is of one of the kinds.

    Args:
        modules: by path.
        kinds: classes.

    Example:
        >>> holds(modules_of(nn.ReLU()), nn.Tanh, nn.ReLU)
        True
    """
    return any(isinstance(module, kinds) for module in modules.values())


def misfit(name: str, model: nn.Module, looked_for: str) -> InputError:
    """The error that a recipe does not fit a model.

    Args:
        name: of the recipe.
        model: the model.
        looked_for: what the recipe looked for.

    Example:
        >>> str(misfit("swin", nn.ReLU(), "residual branches"))[:54]
        'swin fits a model with residual branches; got ReLU. Th'
    """
    return InputError(f"{name} fits a model with {looked_for}", got=phrase(type(model).__name__),
                      fix="The table dropkit.presets.PRESETS has others; dropkit.insert puts dropout anywhere by name")


def _remove(model: nn.Module, put: Insertion) -> None:
    remove(model, put)


def _ignore(_: object) -> None:
    pass


def _put_back(places: list[tuple[nn.Module, str]], module: nn.Module, layer: nn.Module) -> None:
    for parent, key in places:
        parent._modules[key] = layer
    layer.train(module.training)
    for name, parameter in module._parameters.items():  # loading or moving the model may have made new ones
        if name in layer._parameters:
            layer._parameters[name] = parameter
