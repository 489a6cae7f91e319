"""A single pass."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError
from dropkit.core.streams import keyed_pass
from dropkit.inference.meter import is_batched


class Pass:
    """A call of a model with the masks of a seed, on inputs of its own, so that it may write into them.

    Args:
        call: calls the model on inputs and picks what counts.
        inputs: a batch.
        rows: which examples of all these are, as in `dropkit.keyed`.

    Example:
        >>> from dropkit.variants.dropout import dropout
        >>> Pass(lambda x: dropout(x, 1.0), torch.ones(2))(torch.tensor(3))
        tensor([0., 0.])
    """

    by_example = False
    """Whether the model is called for one example after the other."""

    def __init__(self, call: Callable[[Any], Tensor], inputs: Any, rows: tuple[int, int] | None = None) -> None:
        self._rows = rows
        self._call, self._inputs = call, dict(inputs) if isinstance(inputs, Mapping) else inputs
        self._begun: list[Any] = []

    def __call__(self, seed: Tensor) -> Tensor:
        """Run it.

        Args:
            seed: of the pass; under ``torch.vmap`` batched.
        """
        with keyed_pass(seed, self._rows):
            return self._call(pytree.tree_map_only(Tensor, torch.clone, self._inputs))

    def alone(self, seed: Tensor) -> Tensor:
        """Run it and let what draws from the generators of torch, numpy and Python follow the seed, too.

        Args:
            seed: of the pass.
        """
        number = int(seed) ^ (self._rows[0] << 20 if self._rows else 0)
        before = torch.get_rng_state()
        try:
            _seed(number)
            self._begun = random_states()
            return self(seed)
        finally:
            torch.set_rng_state(before)

    def has_drawn(self) -> bool:
        """Tell whether something was drawn from another generator than dropkit's since the pass began."""
        return any(map(differ, self._begun, random_states()))


class SharedPass(Pass):
    """A pass in which all examples have the same masks: those of a batch of one.

    Args:
        call: calls the model on inputs and picks what counts.
        inputs: a batch, all of whose tensors have the examples in their first dimension.

    Raises:
        InputError: for inputs without such a dimension.
    """

    by_example = True

    def __init__(self, call: Callable[[Any], Tensor], inputs: Any) -> None:
        super().__init__(call, inputs)
        self._leaves, self._spec = pytree.tree_flatten(self._inputs)
        self._places = [place for place, x in enumerate(self._leaves) if isinstance(x, Tensor)]
        shapes = [tuple(self._leaves[place].shape) for place in self._places]
        if len({shape[:1] for shape in shapes}) != 1 or not shapes[0]:
            raise InputError("with share_mask all tensors of the inputs have the examples in their first dimension",
                             got=shapes, fix="Leave share_mask off, or reshape them")

    def __call__(self, seed: Tensor) -> Tensor:
        """Run it; see `Pass`.

        Args:
            seed: of the pass; under ``torch.vmap`` batched, and the examples run at once, too.
        """
        data = [self._leaves[place] for place in self._places]
        if is_batched(seed):
            with keyed_pass(seed):
                return torch.vmap(self._example)(*data)
        rows = []
        for tensors in zip(*data, strict=True):
            with keyed_pass(seed):
                rows.append(self._example(*tensors))
        return torch.stack(rows)

    def _example(self, *tensors: Tensor) -> Tensor:
        filled = list(self._leaves)
        for place, x in zip(self._places, tensors, strict=True):
            filled[place] = x[None].clone()
        return self._call(pytree.tree_unflatten(filled, self._spec))[0]


def _seed(number: int) -> None:
    """Seed all generators; torch's as ``torch.manual_seed`` does, whose search for devices takes too long."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.manual_seed(number)
    torch.default_generator.manual_seed(number)
    random.seed(number)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(number % (1 << 32))


def random_states() -> list[Any]:
    """The states of the generators of torch, Python and numpy."""
    states: list[Any] = [torch.get_rng_state(), random.getstate()]
    if "numpy" in sys.modules:
        states.append(sys.modules["numpy"].random.get_state())
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return states


def differ(one: Any, other: Any) -> bool:
    """Tell whether two states differ.

    Args:
        one: a state.
        other: another.

    Example:
        >>> differ(torch.ones(2), torch.ones(2))
        False
    """
    if isinstance(one, Tensor):
        return not torch.equal(one, other)
    if isinstance(one[1], tuple):  # Python's
        return bool(one != other)
    return bool(one[2:] != other[2:] or (one[1] != other[1]).any())  # numpy's
