"""A forward in which chosen sites act, with the masks of a pass, and which knows how much memory a pass takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dropkit.core.intercept import THREAD
from dropkit.inference.active import Active
from dropkit.surgery.functional import Call, read
from dropkit.surgery.modules import kind_of
from dropkit.surgery.watch import Frame, Watch, never

_is_batched = torch._C._functorch.is_batchedtensor  # type: ignore[attr-defined]
_inside = torch._C._functorch.get_unwrapped  # type: ignore[attr-defined]


class Acting(Watch):
    """Answers the functional calls of a model that `prepare` has prepared, inside a ``with`` block.

    Calls of sites that act drop by dropkit's masks, others run as in evaluation. Streams are named as ``dk.swap`` names them.

    Args:
        active: what acts.
        meter: gets the number of bytes of every tensor that a module or a call returns for several passes at once.
    """

    def __init__(self, active: Active, meter: Callable[[int], None]) -> None:
        super().__init__(active.model, never)
        self._active, self._meter = active, meter

    def handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer a call as an `Interceptor` does.

        Args:
            function: what was called.
            args: its positional arguments.
            kwargs: the others.
        """
        call = read(function, args, kwargs)
        THREAD.interceptor = None
        try:
            if call is None:
                return getattr(function, "__wrapped__", function)(*args, **kwargs)
            answer = self._answer(self._stack()[-1], call)
        finally:
            THREAD.interceptor = self
        self._measure(answer)
        return answer

    def run(self, path: str, module: Any, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a module's forward and measure what it returns.

        Args:
            path: the module's.
            module: whose forward it is.
            forward: what to call.
            args: its positional arguments.
            kwargs: the others.
        """
        answer = super().run(path, module, forward, args, kwargs)
        self._measure(answer)
        return answer

    def _answer(self, frame: Frame, call: Call) -> Any:
        inside = kind_of(frame.module) is not None
        name = "" if inside else call.rule.name
        key = frame.next_key(name)
        count = key.rpartition("#")[2] if "#" in key else ""
        path = f"{frame.path}:{name}" if name else frame.path
        p, acts = call.p, call.training
        if inside:
            acts &= frame.module in self._active.modules
        elif (frame.module, key) in self._active.calls:
            known = self._active.calls[frame.module, key]
            p, acts = (p, False) if known is None else (known, True)
        if not acts:
            return call.without_dropout()
        return _forced(call).dropped(p, f"{path}:{count}" if count else path)

    def _measure(self, answer: Any) -> None:
        for x in answer if isinstance(answer, tuple | list) else (answer,):
            if isinstance(x, Tensor) and _is_batched(x):
                while _is_batched(x):
                    x = _inside(x)
                self._meter(x.numel() * x.element_size())


def _forced(call: Call) -> Call:
    """The call with its flag for training on, and not in place: what comes before may have been computed for all passes."""
    call.training = True
    if call.rule.training is not None:
        call.arguments[call.rule.training] = True
    if call.arguments.get("inplace"):
        call.arguments["inplace"] = False
    return call
