"""How large the tensors are that differ from pass to pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.surgery.modules import modules_of

is_batched: Callable[[Tensor], bool] = torch._C._functorch.is_batchedtensor
_HOOK = -1  # torch numbers its own from 0
_inside: Callable[[Tensor], Tensor] = torch._C._functorch.get_unwrapped


class Meter:
    """Measures what modules return while several passes run at once under ``torch.vmap``.

    Args:
        enough: gets the bytes of the largest tensor of one pass whenever there is a larger one.

    Example:
        >>> meter = Meter(lambda largest: None)
        >>> net = nn.Sequential(nn.ReLU(), nn.ReLU())
        >>> with meter.on(net, 3):
        ...     y = torch.vmap(lambda x: net(x * torch.ones(5)))(torch.ones(3))
        >>> meter.largest
        20
    """

    def __init__(self, enough: Callable[[int], None]) -> None:
        self.largest = 0
        self._enough, self._passes = enough, 1
        self._later: list[nn.Module] = []

    @contextmanager
    def on(self, model: nn.Module, passes: int, acting: Collection[nn.Module] = (), alone: bool = False) -> Iterator[None]:
        """Measure the forwards of a model's modules inside the ``with``.

        Args:
            model: whose modules are measured.
            passes: how many run at once.
            acting: modules whose output will differ from pass to pass and be as large as their input, which tells beforehand.
            alone: whether nothing else makes passes differ, so that what runs before the first of them need not be measured.
        """
        self._passes = passes
        modules = [module for module in modules_of(model) if not isinstance(module, torch.jit.ScriptModule)]
        first = _around(modules, acting) if alone else modules
        self._later = [module for module in modules if module not in first] if alone else []
        self._hook(first)
        for module in acting:
            module._forward_pre_hooks[_HOOK] = self._foresee
        try:
            yield
        finally:
            for module in modules:
                module._forward_hooks.pop(_HOOK, None)
                module._forward_pre_hooks.pop(_HOOK, None)

    def _hook(self, modules: Iterable[nn.Module]) -> None:
        for module in modules:  # without handles, which cost more than the forward of a small module
            module._forward_hooks[_HOOK] = self._measure

    def _measure(self, module: nn.Module, inputs: Any, output: Any) -> None:
        for x in output if isinstance(output, tuple | list) else (output,):
            if isinstance(x, Tensor) and is_batched(x):
                self._take(x)

    def _foresee(self, module: nn.Module, inputs: Any) -> None:
        self._hook(self._later)
        self._later = []
        for x in inputs[:1]:
            if isinstance(x, Tensor) and not is_batched(x):
                self._know(x.numel() * x.element_size())

    def _take(self, x: Tensor) -> None:
        while is_batched(x):
            x = _inside(x)
        self._know(x.numel() * x.element_size() // self._passes)

    def _know(self, size: int) -> None:
        if size > self.largest:
            self.largest = size
            self._enough(size)


def _around(modules: list[nn.Module], acting: Collection[nn.Module]) -> set[nn.Module]:
    """Modules that act and those that hold them, whose forwards have begun when one acts."""
    found = set(acting)
    for module in reversed(modules):
        if not found.isdisjoint(module._modules.values()):
            found.add(module)
    return found
