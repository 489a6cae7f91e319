"""Who calls a model's layers and uses their weights, so that one can be changed where nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.modules import modules_of

Alone = Callable[[nn.Sequential, nn.Module, Any], bool]
"""Whether a module and the layer that follows it in an ``nn.Sequential`` are used by that alone."""


def alone_by_structure(model: nn.Module) -> Alone:
    """Tell it of ``nn.Sequential`` that lie in nothing but ``nn.Sequential``: no forward of the user's reaches inside.

    Args:
        model: any module.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.Linear(1, 1))
        >>> alone_by_structure(model)(model, *model)
        True
    """
    found, ahead = set[nn.Module](), [model]
    while ahead:
        module = ahead.pop()
        if type(module) is nn.Sequential and module not in found:
            found.add(module)
            ahead += module
    return lambda parent, first, layer: parent in found


def alone_by_running(model: nn.Module, inputs: Any) -> Alone:
    """Tell it of what runs on inputs, from who calls the two and who uses the layer's weight.

    Args:
        model: any module; put back afterwards.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Example:
        >>> model = nn.Sequential(nn.ReLU(), nn.Linear(1, 1))
        >>> alone_by_running(model, torch.ones(1, 1))(model, *model)
        True
    """
    uses = _Uses()
    with undisturbed(model), torch.no_grad(), uses.seen(model), uses:
        call_model(model, copy_inputs(inputs))
    return lambda parent, first, layer: (uses.callers.get(first) == {parent} and uses.callers.get(layer) == {parent}
                                         and uses.users.get(layer.weight, {layer}) == {layer})


class _Uses(TorchFunctionMode):
    """Records, while a model runs, the innermost module around each call of a module and each use of a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.callers: dict[nn.Module, set[nn.Module | None]] = {}
        self.users: dict[Tensor, set[nn.Module | None]] = {}
        self._running: list[nn.Module] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the parameters among the arguments."""
        for x in (*args, *(kwargs or {}).values()):
            if isinstance(x, nn.Parameter):
                self.users.setdefault(x, set()).add(self._innermost())
        return func(*args, **(kwargs or {}))

    def seen(self, model: nn.Module) -> ExitStack:
        """Follow the calls of a model's modules inside a ``with`` block.

        Args:
            model: any module.
        """
        undo = ExitStack()
        for module in modules_of(model):
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                undo.callback(module.register_forward_pre_hook(self._enter).remove)
                undo.callback(module.register_forward_hook(self._leave, always_call=True).remove)
        return undo

    def _innermost(self) -> nn.Module | None:
        return self._running[-1] if self._running else None

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.callers.setdefault(module, set()).add(self._innermost())
        self._running.append(module)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()
