"""Let a dropout act on what a module takes or returns, by hooks that can be copied and pickled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from dropkit.core.errors import InputError, phrase

_ELEMENTWISE = ("Dropout", "GaussianDropout", "UniformDropout", "AlphaDropout")


class Applied:
    """A dropout that acts at a module, as a hook.

    The hook knows its handle: unpickled in another process it keeps the numbers of later hooks from colliding with its own.

    Args:
        site: the dropout.
        element: which element of the module's output, or which of its arguments.
        target: the module's path.
    """

    where: str

    def __init__(self, site: nn.Module, element: int | str, target: str) -> None:
        self.site, self.element, self.target = site, element, target
        self.handle: RemovableHandle | None = None

    @property
    def alias(self) -> str:
        """The name that the site has at every module but a container, whose own path it cannot be on."""
        return f"{self.target}.{self.where}_dropout" if self.target else f"{self.where}_dropout"

    def attach(self, module: nn.Module) -> None:
        """Begin to act.

        Args:
            module: the target.
        """
        raise NotImplementedError

    def detach(self) -> None:
        """End; nothing of the hook remains."""
        if self.handle is not None:
            self.handle.remove()


class After(Applied):
    """Acts on what a module returns."""

    where = "after"

    def attach(self, module: nn.Module) -> None:
        """Begin to act.

        Args:
            module: the target.
        """
        self.handle = module.register_forward_hook(self)

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        """Drop in an output."""
        return act(self.site, output, self.element)


class Before(Applied):
    """Acts on what a module takes."""

    where = "before"

    def attach(self, module: nn.Module) -> None:
        """Begin to act.

        Args:
            module: the target.
        """
        self.handle = module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Drop in an argument."""
        if isinstance(self.element, str) or self.element >= len(arguments):
            return arguments, act(self.site, named, _nth(self.element, len(arguments)))
        return act(self.site, arguments, self.element), named


def act(site: nn.Module, value: Any, element: int | str) -> Any:
    """What a module returns, with a dropout applied to one element of it.

    Args:
        site: the dropout.
        value: a tensor, or a tuple, list, named tuple, mapping or a model's output of ``transformers`` that holds tensors.
        element: a position or name in what holds tensors; a tensor alone is element 0.

    Returns:
        A new value of the same kind; the value itself where the dropout returns its input.

    Raises:
        InputError: when there is no such element, or it is no tensor.

    Example:
        >>> import torch
        >>> act(nn.Dropout(1.0), (torch.ones(2), None), 0)
        (tensor([0., 0.]), None)
    """
    if isinstance(value, Tensor) and element == 0:
        return site(value)
    if isinstance(value, PackedSequence) and element == 0:
        return value._replace(data=site(_of_packed(site, value)))
    old = _element(value, element)
    new = act(site, old, 0)
    return value if new is old else _replaced(value, element, new)


def _element(value: Any, element: int | str) -> Any:
    try:
        if isinstance(value, Mapping):
            found = value[element] if isinstance(element, str) else list(value.values())[element]
        elif isinstance(value, tuple | list):
            found = value[element] if isinstance(element, int) else getattr(value, element)
        else:
            found = None
    except (KeyError, IndexError, AttributeError):
        found = None
    if not isinstance(found, Tensor | PackedSequence):
        raise InputError(f"element {element!r} of what a module takes or returns is a tensor",
                         got=phrase(f"{type(found).__name__} in {_describe(value)}"),
                         fix="Pass the tensor's position or name as output= to insert")
    return found


def _replaced(value: Any, element: int | str, new: Any) -> Any:
    if isinstance(value, Mapping):
        key = element if isinstance(element, str) else list(value)[element]
        changed = {**value, key: new}
        return changed if type(value) is dict else type(value)(**changed)
    if hasattr(value, "_fields"):
        name = element if isinstance(element, str) else value._fields[element]
        return value._replace(**{name: new})
    items = [new if index == element else item for index, item in enumerate(value)]
    return items if isinstance(value, list) else tuple(items)


def _nth(element: int | str, taken: int) -> int | str:
    return element if isinstance(element, str) else element - taken


def _of_packed(site: nn.Module, value: PackedSequence) -> Tensor:
    # Of packed sequences the steps of all examples lie in one dimension, so a mask shared along any would be wrong.
    shared: Any = getattr(site, "share_dims", None)
    if type(site).__name__ not in _ELEMENTWISE or shared:
        raise InputError("packed sequences take a dropout of single elements", got=phrase(str(site)),
                         fix="Insert dropkit.nn.Dropout, or pad the sequences (torch.nn.utils.rnn.pad_packed_sequence)")
    return value.data


def _describe(value: Any) -> str:
    names = list(value) if isinstance(value, Mapping) else [type(item).__name__ for item in value] if isinstance(
        value, tuple | list) else []
    return f"{type(value).__name__}({', '.join(map(str, names))})" if names else type(value).__name__
