"""Sites that run again in a backward pass: whether they draw the mask that they drew in the forward pass."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dropkit.audit.finding import Place
from dropkit.audit.probe_pass import place_of_call
from dropkit.surgery.functional import read
from dropkit.surgery.modules import kind_of, walk

_SAMPLE = 4096  # values of a tensor that are kept: more than a mask needs to be told from another

_Values = tuple[Tensor, Tensor]


class Twice(TorchFunctionMode):
    """Compares what sites give in a forward pass and when a checkpoint computes them again, on the same input.

    Args:
        model: any module in training.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.backward = model, False
        self.redrawn: dict[str, Place] = {}
        self._first: dict[str, list[_Values]] = {}
        self._inside: list[Tensor] = []  # what the modules that are sites and run now were given
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        for path, module in walk(self.model):
            if kind_of(module) is not None and not isinstance(module, torch.jit.ScriptModule):
                self._undo.callback(module.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
                hook = module.register_forward_hook(lambda part, args, output, path=path: self._leave(path, output))
                self._undo.callback(hook.remove)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._undo.close()

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        call = None if self._inside else read(func, args, given)
        if call is None or not call.training or call.p == 0:
            return func(*args, **given)
        before = _values((args, given))
        result = func(*args, **given)
        place = place_of_call("")
        self._compare(f"{place.file}:{place.line}", place, (before, _values(result)))
        return result

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._inside.append(_values((args, kwargs)))  # before the call, which may write into its argument

    def _leave(self, path: str, output: Any) -> None:
        self._compare(path, place_of_call(path), (self._inside.pop(), _values(output)))

    def _compare(self, name: str, place: Place, now: _Values) -> None:
        if not self.backward:
            self._first.setdefault(name, []).append(now)
            return
        results = [after for before, after in self._first.get(name, ()) if _same(before, now[0])]
        if results and not any(_same(after, now[1]) for after in results):
            self.redrawn[name] = place


def _values(x: Any) -> Tensor:
    """A sample of the numbers in tensors, by value."""
    found = [leaf.detach().flatten()[:_SAMPLE].double().cpu() for leaf in tree_leaves(x)
             if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, equal_nan=True)
