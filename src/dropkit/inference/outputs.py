"""The tensor that counts in what a model returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from dropkit.core.errors import InputError, phrase


def pick(output: Any, chosen: Callable[[Any], Any] | None) -> tuple[Tensor, bool]:
    """The tensor of an output, and whether it is known to hold logits.

    Args:
        output: what a model returned: a tensor, one with a field ``logits``, or a container with a single tensor.
        chosen: picks the tensor where given.

    Raises:
        InputError: where that is no tensor of floating-point numbers, or no single one.

    Example:
        >>> import torch
        >>> pick({"logits": torch.ones(2), "hidden": torch.ones(3)}, None)
        (tensor([1., 1.]), True)
    """
    named = chosen is None and ((isinstance(output, Mapping) and "logits" in output) or hasattr(output, "logits"))
    if chosen is not None:
        found = chosen(output)
    elif named:
        found = output["logits"] if isinstance(output, Mapping) else output.logits
    elif isinstance(output, Mapping | tuple | list):
        values = list(output.values() if isinstance(output, Mapping) else output)
        found = values[0] if len(values) == 1 else output
    else:
        found = output
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise InputError("one floating-point tensor of the model's output is predicted", got=phrase(_described(found)),
                         fix="Pick it, as in outputs=lambda output: output[0]")
    return found, named


class Picker:
    """Picks the tensor of an output, and remembers whether it is known to hold logits.

    Args:
        chosen: as in `pick`.
    """

    def __init__(self, chosen: Callable[[Any], Any] | None) -> None:
        self._chosen, self.named = chosen, False

    def __call__(self, output: Any) -> Tensor:
        """Return the tensor; see `pick`."""
        found, self.named = pick(output, self._chosen)
        return found


def _described(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of {found.dtype}"
    if isinstance(found, Mapping):
        return f"a {type(found).__name__} of {', '.join(map(str, found))}"
    size = f" of {len(found)}" if isinstance(found, tuple | list) else ""
    return f"a {type(found).__name__}{size}"
