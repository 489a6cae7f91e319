"""Watch every operator that draws random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_RATES, _FLAGS = ("p", "dropout", "dropout_p"), ("train", "training")


class Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of every operator that draws from torch's generators inside the ``with``, in a backward pass as well.

    Fused operators that could drop run in evaluation, too, with a rate or a flag that keeps them from it; these draw nothing.

    Args:
        tell: called with each operator and its result.

    Example:
        >>> with Draws(lambda operator, result: print(operator)):
        ...     x = torch.rand(2) + torch.nn.functional.dropout(torch.ones(2), training=False)
        aten.rand.default
    """

    def __init__(self, tell: Callable[[Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if torch.Tag.nondeterministic_seeded in func.tags and _is_on(func, args, given):
            self._tell(func, result)
        return result


def _is_on(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the arguments leave anything to chance."""
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name, argument.default_value)
        if argument.name in _FLAGS and value is False:
            return False
        if argument.name in _RATES and isinstance(value, int | float) and value == 0:
            return False
    return True
