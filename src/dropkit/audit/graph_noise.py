"""Masks of a model's own making: random tensors that no value of the model goes into, and what they act on."""

from __future__ import annotations

from collections.abc import Iterator

from dropkit.audit.graph import Graph
from dropkit.audit.observation import Op

_CONSTANTS = frozenset(f"{before}{what}{after}" for what in ("empty", "zeros", "ones", "full")
                       for before, after in (("", ""), ("new_", ""), ("", "_like"))) | {"tensor", "new_tensor"}
_DRAWN = frozenset(("rand", "rand_like", "randn", "randn_like", "randint", "randint_like"))
_DRAWN_FROM = frozenset(("bernoulli", "uniform", "normal", "random", "exponential", "geometric", "cauchy"))

_SPLITS = frozenset(("bernoulli", "gt", "lt", "ge", "le", "floor", "round", "bool"))  # a number in [0, 1] into kept and dropped


def noise(known: Graph) -> set[Op]:
    """The operations whose results are random and depend on the model's inputs by their shapes alone.

    Args:
        known: a pass.
    """
    constants: set[Op] = set()
    found: set[Op] = set()
    for op in known.ops:
        alone = all(parent in constants or parent in found for parent in op.parents)
        if op.name in _DRAWN or (alone and op.name in _DRAWN_FROM) or (alone and op.site is None and found & set(op.parents)):
            found.add(op)
        elif op.name in _CONSTANTS or (alone and op.parents):
            constants.add(op)
    return found


def masked(known: Graph) -> Iterator[tuple[Op, list[Op]]]:
    """Each draw of one mask an example, kept or dropped as a whole, with the multiplications by it.

    Args:
        known: a pass.
    """
    random = noise(known)
    for draw in random:
        if draw.name in _DRAWN | _DRAWN_FROM and not random & set(draw.parents) and _one_each(draw):
            reached = {draw}
            uses: list[Op] = []
            for op in known.ops[draw.index + 1:]:
                if reached & set(op.parents):
                    if op in random:
                        reached.add(op)
                    elif op.name in ("mul", "multiply", "div", "where"):
                        uses.append(op)
            if any(op.name in _SPLITS for op in reached):
                yield draw, uses


def _one_each(op: Op) -> bool:
    return len(op.shape) > 0 and op.shape[0] > 1 and all(size == 1 for size in op.shape[1:])
