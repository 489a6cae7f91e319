"""WeightDrop: DropConnect on the named weights of any module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dropkit.core.errors import InputError
from dropkit.core.streams import SAME
from dropkit.variants.draw import acting_rate, draw_masked
from dropkit.variants.site import RateSite

_PREFIX = "module."


def weight_drop(module: nn.Module, inputs: Sequence[Any], p: float | Tensor = 0.5, training: bool = True, *,
                names: Sequence[str] = ("weight_hh*",), kwargs: Mapping[str, Any] | None = None,
                generator: torch.Generator | None = None, stream: str | None = None) -> Any:
    """Call a module with elements of its named weights zeroed at random in training.

    ``W' = W * m / (1 - p)`` for each named weight W, once for the whole call, so for all steps of a sequence: m is a mask of
    W's shape and p the rate. Gradients reach W itself; the module is not changed.

    Args:
        module: any module.
        inputs: its positional arguments.
        p: probability of dropping a weight, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        names: names or globs of its parameters. Default: the recurrent weights of torch's recurrent modules.
        kwargs: its keyword arguments.
        generator: draw the seeds from here, one a weight.
        stream: the site's name under ``dk.keyed``.

    Returns:
        What the module returns.

    Raises:
        InputError: for a rate outside [0, 1], or a name that no parameter has.

    Shape:
        As the module's.

    Use:
        On the recurrent weights of ``nn.LSTM`` and ``nn.GRU``, whose fused implementation stays in use; it is the way to
        regularise the recurrence without writing the loop over time.

    Rates:
        0.5, which is what the paper takes for the recurrent weights of its LSTM language models.

    Evidence:
        The paper's ablation on Penn Treebank and WikiText-2 loses several points of perplexity without it, more than
        without any other of its regularisers.

    Example:
        >>> lstm = nn.LSTM(2, 3)
        >>> output, _ = weight_drop(lstm, (torch.ones(4, 1, 2),), 0.5)
        >>> output.shape
        torch.Size([4, 1, 3])

    References:
        Merity, Keskar, Socher: "Regularizing and optimizing LSTM language models", ICLR 2018.
    """
    chosen = match_names(module, names)
    rate = acting_rate(p, training, generator, stream, uses=len(chosen))
    if rate is None:
        return module(*inputs, **(kwargs or {}))
    weights = dict(module.named_parameters())
    dropped = {name: draw_masked(weights[name], rate, weights[name].shape, generator, stream, rows=SAME) for name in chosen}
    return functional_call(module, dropped, tuple(inputs), dict(kwargs or {}))


class WeightDrop(RateSite):
    """A module some of whose weights are dropped singly in training; `weight_drop` as a module.

    The ``state_dict`` has the wrapped module's keys, and attributes that this module lacks are looked up in the wrapped one.

    Args:
        module: the module to wrap.
        p: probability of dropping a weight, in [0, 1]. Default: 0.5.
        names: names or globs of its parameters.

    Raises:
        InputError: for a rate outside [0, 1], or a name that no parameter has.

    Shape:
        As the wrapped module's.

    Example:
        >>> layer = WeightDrop(nn.LSTM(2, 3), 0.5)
        >>> sorted(layer.state_dict())[-1], layer.hidden_size
        ('weight_ih_l0', 3)
    """

    def __init__(self, module: nn.Module, p: float = 0.5, names: Iterable[str] = ("weight_hh*",)) -> None:
        super().__init__()
        self.module, self.p = module, p
        self.names = match_names(module, names if isinstance(names, str) else tuple(names))
        self._register_state_dict_hook(_without_prefix)  # type: ignore[no-untyped-call]
        self._register_load_state_dict_pre_hook(_with_prefix, with_module=True)  # type: ignore[no-untyped-call]

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Call the wrapped module with dropped weights in training mode; see `weight_drop`.

        Args:
            inputs: of the wrapped module.
            kwargs: of the wrapped module.
        """
        return weight_drop(self.module, inputs, self.current_rate(), self.training, names=self.names, kwargs=kwargs,
                           stream=self.stream)

    def extra_repr(self) -> str:
        """The rate and the names."""
        return f"p={self.p}, names={self.names}"

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            wrapped = self.__dict__.get("_modules", {}).get("module")
            if wrapped is None or name.startswith("_"):
                raise
            return getattr(wrapped, name)


def match_names(module: nn.Module, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """The names of a module's parameters that match, each once, in the order of the parameters.

    Args:
        module: any module.
        patterns: names or globs, one or several.

    Raises:
        InputError: for a pattern that matches none, or for no pattern at all.

    Example:
        >>> match_names(nn.LSTM(1, 1), ["weight_hh*"])
        ('weight_hh_l0',)
    """
    known = [name for name, _ in module.named_parameters()]
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    if not patterns:
        raise InputError("at least one weight is named to be dropped", got=patterns, fix='Pass names such as ("weight_hh*",)')
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in known):
            raise InputError("a name to drop is that of a parameter of the module", got=pattern,
                             fix=f"The parameters are {', '.join(known[:12])}{', ...' if len(known) > 12 else ''}")
    return tuple(name for name in known if any(_matches(name, pattern) for pattern in patterns))


def _matches(name: str, pattern: str) -> bool:
    # A name means itself, and a pattern without wildcards never reaches fnmatch, whose cache compilers warn about.
    return name == pattern or (any(mark in pattern for mark in "*?[") and fnmatchcase(name, pattern))


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    inner = prefix + _PREFIX
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key[len(inner):]] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    wrapped = module.get_submodule("module")
    for key in wrapped.state_dict(keep_vars=True):
        if prefix + key in state:
            state[prefix + _PREFIX + key] = state.pop(prefix + key)
