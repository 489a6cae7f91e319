"""What the modules of all variants share: a validated rate that can change at any time, and a stream's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate


class StreamSite(nn.Module):
    """A module that draws masks or noise."""

    stream: str | None = None
    """The site's name under ``dk.keyed``; ``dk.swap`` sets it to the module's path."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse ``torch.jit.script``, which calls this first and would complain about a line of dropkit's own source."""
        raise InputError("dropkit's layers do not go into TorchScript", got=phrase(f"a {type(self).__name__} to script"),
                         fix="Use torch.compile or torch.export; dk.fold(model, example) gives a copy for deployment without "
                             "dropout, which can be scripted")


class RateSite(StreamSite):
    """A module that drops with a rate.

    A subclass calls ``super().__init__()``, then assigns ``self.p``. A family of modules that also derives from a module of
    torch puts `RateSite` first.
    """

    rate: Tensor
    """The rate as compiled code reads it: a float64 tensor with no dimensions, so that a new value recompiles nothing."""

    below_one: ClassVar[bool] = False
    """Whether a rate of 1 is refused."""

    extras: ClassVar[Mapping[str, Any]] = {}
    """Settings that torch's twin, if there is one, does not have, with their defaults; shown where they differ."""

    @property
    def p(self) -> float:
        """Probability of dropping."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        self._p = check_rate(p, below_one=self.below_one)
        if "rate" in vars(self):
            self.rate.fill_(self._p)
        else:  # not a buffer, which `half()` would round and `to()` would move
            vars(self)["rate"] = torch.tensor(self._p, dtype=torch.float64, device="cpu")

    def current_rate(self) -> float | Tensor:
        """Return the rate as the functions take it: a tensor while compiling, so that no value is burnt in, else a float."""
        return self.rate if torch.compiler.is_compiling() else self._p

    def extra_repr(self) -> str:
        """The rate, then the extras that differ from their default."""
        return ", ".join([f"p={self.p}", *self._changed_extras()])

    def _changed_extras(self) -> list[str]:
        return [f"{name}={getattr(self, name)!r}" for name, default in self.extras.items() if getattr(self, name) != default]


class DropoutSite(RateSite, _DropoutNd):
    """Element-wise and channel dropout: a `RateSite` that libraries which look for torch's dropout recognise.

    Args:
        p: probability of dropping, in [0, 1]; may be assigned at any time and is checked then.
        inplace: write into the input and return it.
    """

    inplace: bool

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(check_rate(p, below_one=self.below_one), inplace)

    def extra_repr(self) -> str:
        """Torch's own text, then the extras that differ from their default."""
        return ", ".join([f"p={self.p}, inplace={self.inplace}", *self._changed_extras()])
