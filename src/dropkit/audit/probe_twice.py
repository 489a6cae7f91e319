"""Lines that draw random numbers again in a backward pass: whether these are the numbers of the forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from dropkit.audit.finding import Place
from dropkit.audit.probe_pass import place_of_call

_SAMPLE = 4096  # values of a result that are kept: more than a mask needs to be told from another


class Twice:
    """Compares what a line draws in a forward pass and when a checkpoint computes it again."""

    def __init__(self) -> None:
        self.backward = False
        self.redrawn: list[Place] = []
        self._first: dict[Place, list[Tensor]] = {}

    def drawn(self, operator: Any, result: Any) -> None:
        """Note a draw, or compare it; see `dropkit.surgery.draws.Draws`.

        Args:
            operator: what drew.
            result: what it gave.
        """
        place, now = place_of_call(""), _values(result)
        if not self.backward:
            self._first.setdefault(place, []).append(now)
            return
        first = self._first.get(place, [])
        if first and place not in self.redrawn and not any(x.shape == now.shape and torch.equal(x, now) for x in first):
            self.redrawn.append(place)


def _values(x: Any) -> Tensor:
    """A sample of the numbers in tensors, copied: what draws may have written into what is written into again."""
    found = [leaf.detach().flatten()[:_SAMPLE].to("cpu", torch.float64, copy=True) for leaf in tree_leaves(x)
             if isinstance(leaf, Tensor)]
    return torch.cat(found) if found else torch.empty(0)
