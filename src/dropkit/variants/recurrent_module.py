"""What recurrent modules with dropout share: torch's module, with sites for its rates as children that have no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.kernels.recurrent import GRU, LSTM, RELU, TANH
from dropkit.variants.recurrent_layers import Chance, Noise, run
from dropkit.variants.site import RateSite

_CELLS = {"LSTM": LSTM, "GRU": GRU, "RNN_TANH": TANH, "RNN_RELU": RELU}
_SHOWN = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "bidirectional": False}
_Module = TypeVar("_Module", bound=nn.RNNBase)
PER = ("sequence", "step")


class Rate:
    """The rate of a child, as an attribute of the module that holds it.

    Args:
        site: the child's name.
    """

    def __init__(self, site: str) -> None:
        self.site = site

    def __get__(self, module: Any, kind: Any = None) -> Any:
        if module is None:
            return self
        return getattr(module._modules.get(self.site), "p", 0.0)

    def __set__(self, module: Any, p: float) -> None:
        child = module._modules.get(self.site)
        if isinstance(child, nn.Identity):
            raise InputError(f"the rate of {self.site} is that of a module", got=phrase(f"{p} where nn.Identity stands"),
                             fix=f"Put one there first: module.{self.site} = dropkit.nn.LockedDropout({p})")
        if child is not None:  # torch's constructor assigns `dropout` before there are children
            child.p = p


class RecurrentSites(nn.RNNBase):
    """A recurrent module of torch whose rates are those of its children.

    The parameters, their names and the ``state_dict`` are torch's. A subclass puts this class before ``nn.LSTM``, ``nn.GRU``
    or ``nn.RNN``.
    """

    between_dropout: nn.Module
    dropout: Any = Rate("between_dropout")
    """The rate between layers, which is that of ``between_dropout``."""

    settings: ClassVar[Mapping[str, Any]] = {}
    """What torch's module does not have besides the children, with defaults."""

    def noise(self) -> Noise:
        """Return what the variant chooses, from the children as they are now."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the layers; the sites that are in training mode drop.

        Args:
            input: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence.
            hx: the first state, (h, c) for an LSTM; zeros when None.
        """
        return run(_CELLS[self.mode], input, hx, self.all_weights, self.noise(), bidirectional=self.bidirectional,
                   batch_first=self.batch_first, training=self.training)

    def extra_repr(self) -> str:
        """Torch's text without the rate, which a child shows, then the settings that differ from their default."""
        shown = {**_SHOWN, **self.settings}
        extras = [f"{name}={getattr(self, name)!r}" for name, default in shown.items() if getattr(self, name) != default]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *extras])


def install(module: nn.RNNBase, kind: type[RecurrentSites], sites: Mapping[str, nn.Module], **settings: Any) -> None:
    """Make one of torch's recurrent modules one with sites: the same object, with its parameters, hooks and mode.

    Args:
        module: an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``; changed in place.
        kind: the class that it becomes.
        sites: its children.
        settings: its further attributes.
    """
    vars(module).pop("dropout", None)
    module.__class__ = kind
    for name, site in sites.items():
        module.add_module(name, site.train(module.training))
    for name, value in settings.items():
        setattr(module, name, value)


def remove(module: RecurrentSites, kind: type[_Module]) -> _Module:
    """Undo `install`; the rate between layers stays, as torch's own.

    Args:
        module: changed in place.
        kind: the class of torch that it becomes.

    Returns:
        The module.
    """
    p = module.dropout
    for name in [name for name, child in module.named_children() if isinstance(child, RateSite | nn.Dropout | nn.Identity)]:
        del module._modules[name]
    for name in module.settings:
        vars(module).pop(name, None)
    plain: Any = module
    plain.__class__ = kind
    vars(plain)["dropout"] = p
    result: _Module = plain
    return result


def chance(site: nn.Module) -> Chance:
    """Where a child's masks come from; what stands in its place without a rate never drops.

    Args:
        site: the child, or what surgery put there: torch's dropout, or ``nn.Identity``.

    Example:
        >>> chance(nn.Dropout(0.3)).p, chance(nn.Identity()).p
        (0.3, 0.0)
    """
    if isinstance(site, RateSite):
        return Chance(site.current_rate(), site.training, None, site.stream)
    return Chance(float(getattr(site, "p", 0.0)), site.training)


def named(p: float | Tensor, training: bool, generator: torch.Generator | None, stream: str | None, site: str) -> Chance:
    """Where the masks of a function's site come from; under ``dk.keyed`` it is called as a module's child would be.

    Args:
        p: the site's rate.
        training: whether it may act.
        generator: the caller's.
        stream: the name of the whole, if any.
        site: the name of the site in it.
    """
    return Chance(p, training, generator, None if stream is None else f"{stream}.{site}")


def check_per(per: Any) -> str:
    """How often masks are drawn: ``"sequence"`` or ``"step"``.

    Args:
        per: the caller's.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_per("step")
        'step'
    """
    if per not in PER:
        raise InputError('per is "sequence" or "step"', got=per, fix='Pass per="sequence" for one mask at all steps')
    return str(per)


def check_plain(module: Any) -> nn.RNNBase:
    """A module of torch that can be given sites.

    Args:
        module: the caller's.

    Raises:
        InputError: unless it is exactly an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``.
    """
    if type(module) not in (nn.LSTM, nn.GRU, nn.RNN):
        raise InputError("what becomes a recurrent module with sites is an nn.LSTM, nn.GRU or nn.RNN",
                         got=phrase(type(module).__name__), fix="Pass such a module; a subclass may compute something else")
    plain: nn.RNNBase = module
    return plain
