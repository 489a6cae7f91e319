"""Run the passes: many at once under ``torch.vmap``, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import keyed_pass

is_batched = torch._C._functorch.is_batchedtensor  # type: ignore[attr-defined]
Pass = Callable[[Tensor], Tensor]
METHODS = ("auto", "vmap", "loop")
_ALIVE = 4  # tensors of the largest one's size that live at once, about: input, output, and the rows of a mask being stacked


class _TooMany(Exception):
    """So many passes at once take more memory than they may."""

    def __init__(self, size: int) -> None:
        self.size = size


class Runner:
    """Runs passes and remembers by which method, and how many fit at once.

    Operations before the first site that acts have no pass dimension; ``torch.vmap`` runs them once a chunk of passes. How
    large a chunk may be shows as soon as a tensor with a pass dimension is too large; the chunk is then begun again, smaller.

    Args:
        method: ``"auto"``, ``"vmap"`` or ``"loop"``; auto turns to the loop where vmap raises.
        memory: bytes that the tensors of a chunk may take, about.

    Example:
        >>> runner = Runner("auto", 1 << 20)
        >>> [len(chunk) for chunk in runner.run(lambda seed: seed + torch.zeros(2), torch.arange(3))], runner.method
        ([3], 'vmap')
    """

    def __init__(self, method: str, memory: int) -> None:
        self.method, self.why, self._asked = "loop" if method == "loop" else "vmap", "", method
        if method == "loop":
            self.why = "asked for"
        self._memory, self._largest, self._now = memory, 1, 0

    def meter(self, size: int) -> None:
        """Take note of a tensor's size.

        Args:
            size: bytes for all passes that run at once.
        """
        size = size // max(1, self._now)
        if size > self._largest:
            self._largest = size
            if self._now > self._fitting():
                raise _TooMany(self._fitting())

    def run(self, one: Pass, seeds: Tensor) -> Iterator[Tensor]:
        """Yield the outputs of all passes, chunk by chunk, passes first.

        Args:
            one: a pass, from its seed.
            seeds: of the passes.

        Raises:
            InputError: where vmap was asked for and cannot run the model.
        """
        at = 0
        while self.method == "vmap" and at < len(seeds):
            part = seeds[at:at + self._fitting()]
            self._now = len(part)
            try:
                chunk = torch.vmap(one)(part)
            except _TooMany:
                continue
            except Exception as error:
                self._turn(error)
            else:
                at += len(part)
                yield chunk
            finally:
                self._now = 0
        for seed in seeds[at:]:
            yield _alone(one, seed)[None]

    def _fitting(self) -> int:
        return max(1, self._memory // (_ALIVE * self._largest))

    def _turn(self, error: Exception) -> None:
        text = str(error).strip().split("\n")[0]
        if self._asked == "vmap":
            raise InputError("a model that is run by vmap can be", got=phrase(f"{type(error).__name__}: {text}"),
                             fix='Pass method="auto", which runs the passes one after the other then') from error
        self.method, self.why = "loop", f"vmap raised {type(error).__name__}: {text}"


def one_pass(call: Callable[[Any], Tensor], inputs: Any) -> Pass:
    """A pass: a call of the model with the masks of a seed, on inputs of its own, so that it may write into them.

    Args:
        call: calls the model on inputs and picks what counts.
        inputs: a batch.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else inputs

    def run(seed: Tensor) -> Tensor:
        with keyed_pass(seed):
            return call(pytree.tree_map_only(Tensor, torch.clone, given))

    return run


def shared_pass(call: Callable[[Any], Tensor], inputs: Any) -> Pass:
    """A pass in which all examples have the same masks: those of a batch of one.

    Args:
        call: calls the model on inputs and picks what counts.
        inputs: a batch, all of whose tensors have the examples in their first dimension.

    Raises:
        InputError: for inputs without such a dimension.
    """
    leaves, spec = pytree.tree_flatten(dict(inputs) if isinstance(inputs, Mapping) else inputs)
    places = [place for place, x in enumerate(leaves) if isinstance(x, Tensor)]
    sizes = {leaves[place].shape[0] if leaves[place].dim() else None for place in places}
    if len(sizes) != 1 or sizes == {None}:
        raise InputError("with share_mask all tensors of the inputs have the examples in their first dimension",
                         got=[tuple(leaves[place].shape) for place in places], fix="Leave share_mask off, or reshape them")

    def example(*tensors: Tensor) -> Tensor:
        filled = list(leaves)
        for place, x in zip(places, tensors, strict=True):
            filled[place] = x[None].clone()
        return call(pytree.tree_unflatten(filled, spec))[0]

    def run(seed: Tensor) -> Tensor:
        data = [leaves[place] for place in places]
        if is_batched(seed):
            with keyed_pass(seed):
                return torch.vmap(example)(*data)
        rows = []
        for tensors in zip(*data, strict=True):
            with keyed_pass(seed):
                rows.append(example(*tensors))
        return torch.stack(rows)

    return run


def _alone(one: Pass, seed: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))  # for what draws from torch's own generator, so that it follows the pass too
        return one(seed)
