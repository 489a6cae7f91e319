"""What comes before the first site that acts is computed once, where passes run one after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.streams import is_used

_Key = tuple[nn.Module, int]  # a module, and how many of its calls in this pass came before
_Versions = tuple[tuple[Tensor, int], ...]


@dataclass(frozen=True)
class _Kept:
    """What a module returned, the versions of its tensors then, and how often modules inside it were called meanwhile."""

    output: Any
    versions: _Versions
    calls: dict[nn.Module, int]


class Prefix:
    """Keeps the outputs of modules that were done before a site acted in the first pass, and returns them in the others.

    Up to there all passes compute the same. An output that was written into since, as its version tells, is computed anew.

    Args:
        model: whose modules' outputs are kept.
        memory: bytes that may be kept.
        drawn: tells whether something was drawn from torch's generator since the pass began.

    Example:
        >>> calls = []
        >>> trunk = nn.ReLU()
        >>> _ = trunk.register_forward_pre_hook(lambda module, args: calls.append(args))
        >>> prefix = Prefix(nn.Sequential(nn.Tanh(), trunk), 1 << 20, lambda: False)
        >>> with prefix.on():
        ...     for _ in range(3):
        ...         y = prefix.model(torch.ones(2))
        ...         prefix.next_pass()
        >>> len(calls)
        1
    """

    def __init__(self, model: nn.Module, memory: int, drawn: Callable[[], bool]) -> None:
        self.model, self._left, self._drawn = model, memory, drawn
        self._kept: dict[_Key, _Kept] = {}
        self._counts: dict[nn.Module, int] = {}
        self._first = True
        self._replaced: dict[nn.Module, Any] = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """Keep and return outputs of the passes inside the ``with``."""
        for module in self.model.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                self._replace(module)
        try:
            yield
        finally:
            self._give_back(list(self._replaced))

    def next_pass(self) -> None:
        """Begin another pass."""
        self._counts.clear()
        if self._first:
            self._first = False
            kept = {module for module, _ in self._kept}
            self._give_back([module for module in self._replaced if module not in kept])

    def _replace(self, module: nn.Module) -> None:
        own = vars(module).get("forward")
        forward = own or type(module).forward.__get__(module)
        self._replaced[module] = own

        def run(*args: Any, **kwargs: Any) -> Any:
            return self._run(module, forward, args, kwargs)

        vars(module)["forward"] = functools.update_wrapper(run, forward)  # some read its signature

    def _give_back(self, modules: list[nn.Module]) -> None:
        for module in modules:
            own = self._replaced.pop(module)
            vars(module).pop("forward")
            if own is not None:
                vars(module)["forward"] = own

    def _run(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        key = module, self._counts.get(module, 0)
        self._counts[module] = key[1] + 1
        if key in self._kept:
            kept = self._kept[key]
            if all(x._version == version for x, version in kept.versions):
                for inside, count in kept.calls.items():
                    self._counts[inside] = self._counts.get(inside, 0) + count
                return kept.output
        inner, before = len(self._kept), dict(self._counts)
        output = forward(*args, **kwargs)
        if self._first and not is_used() and not self._drawn():
            for nested in list(self._kept)[inner:]:  # is not run again, unless this output is written into
                self._left += _bytes(self._kept.pop(nested).versions)
            calls = {inside: count - before.get(inside, 0) for inside, count in self._counts.items()}
            self._keep(key, output, calls)
        return output

    def _keep(self, key: _Key, output: Any, calls: dict[nn.Module, int]) -> None:
        tensors = output if type(output) is tuple else (output,)
        if not all(isinstance(x, Tensor) and not x.is_inference() for x in tensors):
            return
        versions = tuple((x, x._version) for x in tensors)
        if _bytes(versions) <= self._left:
            self._left -= _bytes(versions)
            self._kept[key] = _Kept(output, versions, {inside: count for inside, count in calls.items() if count})


def _bytes(versions: _Versions) -> int:
    return sum(x.numel() * x.element_size() for x, _ in versions)
