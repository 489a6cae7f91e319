"""Run the passes: many at once under ``torch.vmap``, or one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.inference.meter import Meter
from dropkit.inference.overwrite import overwriting
from dropkit.inference.prefix import Prefix
from dropkit.inference.single import Pass, differ, random_states

METHODS = ("auto", "vmap", "loop")
_ALIVE = 13  # tensors of the size of the largest that a module returns which live at once, at most: attention's are the most
_CACHE = 1 << 21  # bytes that the largest tensor of the first chunk may take
_LARGE = 1 << 19  # bytes; from here on calls in turn are as fast or faster, by `benchmarks/bench_mc.py`


class _TooMany(Exception):
    """So many passes at once take more memory than they may."""


class Runner:
    """Runs passes and remembers by which method, and how many fit at once.

    Operations before the first site that acts have no pass dimension; ``torch.vmap`` runs them once a chunk of passes. How
    large a chunk may be shows as soon as a tensor with a pass dimension is too large; the chunk is then begun again, smaller.
    The first chunk stays small enough for the processor's cache; what it shows decides about the others.

    Args:
        model: whose passes are run.
        method: ``"auto"``, ``"vmap"`` or ``"loop"``; auto turns to the loop where vmap raises, and where it would be slower.
        memory: bytes that the tensors of a chunk may take, about.
        acting: the modules that act.
        alone: whether nothing but these makes passes differ.

    Example:
        >>> runner = Runner(nn.ReLU(), "auto", 1 << 20)
        >>> [len(chunk) for chunk in runner.run(Pass(runner.model, torch.ones(2)), torch.arange(3))], runner.method
        ([3], 'vmap')
    """

    def __init__(self, model: nn.Module, method: str, memory: int, acting: Iterable[nn.Module] = (),
                 alone: bool = False) -> None:
        self.method, self.why = ("loop", "asked for") if method == "loop" else ("vmap", "")
        self.model, self._asked, self._memory, self._acting, self._alone = model, method, memory, set(acting), alone
        self._limit, self._now = min(memory // _ALIVE, _CACHE) if method == "auto" else memory // _ALIVE, 0
        self._decided = False
        self._meter = Meter(self._check)
        if self.method == "vmap" and any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            self._turn("autocast does not reach what vmap computes")

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
            try:
                chunk = self._at_once(one, part)
            except _TooMany:
                if self._meter.largest >= _LARGE:  # known already: in turn from the first pass on
                    self._decide()
            except Exception as error:
                self._turn(vmap_reason(error), error)
            else:
                at += len(part)
                self._decide()
                yield chunk
        yield from self._in_turn(one, seeds[at:])

    def _in_turn(self, one: Pass, seeds: Tensor) -> Iterator[Tensor]:
        if len(seeds) < 2 or one.by_example:
            yield from (one.alone(seed)[None] for seed in seeds)
            return
        prefix = Prefix(self.model, self._memory, one.has_drawn)
        with overwriting(self.model, self._acting), prefix.on():
            for seed in seeds:
                yield one.alone(seed)[None]
                prefix.next_pass()

    def _at_once(self, one: Pass, part: Tensor) -> Tensor:
        self._now, before = len(part), random_states()
        with self._meter.on(self.model, len(part), self._acting, self._alone), torch.random.fork_rng(devices=[]):
            chunk: Tensor = torch.vmap(one)(part)
            if any(map(differ, before, random_states())):  # vmap refuses what draws, but does not see into fused layers
                raise RuntimeError("something in the model draws from a generator of its own, once for all passes")
        return chunk

    def _check(self, largest: int) -> None:
        if self._now > self._fitting():
            raise _TooMany

    def _fitting(self) -> int:
        return max(1, self._limit // max(1, self._meter.largest))

    def _decide(self) -> None:
        """Large tensors leave the cache when many passes run at once, and cost more than calls in turn."""
        if self._asked != "auto" or self._decided:
            return
        self._decided, self._limit = True, self._memory // _ALIVE
        if self._meter.largest >= _LARGE:
            self.method, self.why = "loop", "the tensors after the first site that acts are large"

    def _turn(self, why: str, error: Exception | None = None) -> None:
        if self._asked == "vmap":
            raise InputError("a model that is run by vmap can be", got=phrase(why),
                             fix='Pass method="auto", which runs the passes one after the other then') from error
        self.method, self.why = "loop", why


def vmap_reason(error: Exception) -> str:
    """Why vmap could not run a model, in words where they are known.

    Args:
        error: what it raised.

    Example:
        >>> vmap_reason(ValueError("too deep"))
        'vmap raised ValueError: too deep'
    """
    said = str(error).strip()
    if "random operation" in said or "generator of its own" in said:
        return "something in the model draws from a generator of its own"
    if any(word in said for word in ("data-dependent control flow", ".item()", ".tolist()", "is_nonzero")):
        return "what the forward does depends on values that differ from pass to pass"
    if "batching rule" in said or "Batching rule" in said:
        return f"vmap cannot run an operation of the model: {said.splitlines()[0]}"
    return f"vmap raised {type(error).__name__}: {said.splitlines()[0] if said else 'no message'}"
