"""The torch function mode under which calls of dropout functions reach an interceptor."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dropkit.core.intercept import THREAD, Interceptor
from dropkit.surgery.functional import RULES


class DropMode(TorchFunctionMode):
    """Hands calls of functions that drop to an interceptor, as long as it is the innermost of the thread.

    Args:
        interceptor: who gets them.
    """

    def __init__(self, interceptor: Interceptor) -> None:
        super().__init__()
        self.interceptor = interceptor

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Answer one call; see ``torch.overrides.TorchFunctionMode``."""
        given = kwargs or {}
        if func not in _MET:
            return func(*args, **given)
        if THREAD.interceptor is self.interceptor:
            if func in RULES:
                return self.interceptor.handle(func, args, given)
            if func is F.multi_head_attention_forward:
                with self:  # modes are off in here
                    return _attend(*args, **given)
        if func is torch.Tensor.unflatten:  # calls super(), which torch.compile does not follow under a mode
            return torch.unflatten(*args, **given)
        return func(*args, **given)


def _without_overrides(function: Callable[..., Any]) -> Callable[..., Any]:
    """Torch's function without the question whether a mode wants it: the functions that it calls are for the mode.

    The globals have no ``__name__``: torch.compile would look names up in the module of that name instead.
    """
    assert isinstance(function, FunctionType)
    names = {name: getattr(F, name) for name in function.__code__.co_names if hasattr(F, name)}
    scope = {**names, "has_torch_function": lambda tensors: False, "__builtins__": builtins}
    copy = FunctionType(function.__code__, scope, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


_attend = _without_overrides(F.multi_head_attention_forward)
_MET = {*RULES, F.multi_head_attention_forward, torch.Tensor.unflatten}
