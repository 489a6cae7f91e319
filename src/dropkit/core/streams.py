"""Streams: which masks a site uses, drawn at random or as a function of (seed, step, pass, site)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.philox import derive_seed
from dropkit.core.seeds import check_generator, check_integer, check_seed, draw_seed, seed_tensor

Shard = dict[str, tuple[int, ...]]

UNNAMED = "call"
"""The name of sites that have none."""

ROWS, SAME, FRESH = "rows", "same", "fresh"
"""How a site's mask in one batch is related to the next batch's, where `keyed` knows the rows. `ROWS`: the mask's first
dimension is that of the examples, and each batch has its slice of the mask of all. `SAME`: the mask does not belong to the
examples, as that of a weight, and all batches have the same. `FRESH`: it does in a way that no slice fits, and each batch has
one of its own."""


def stream_number(name: str) -> int:
    """The stream of a named site: 60 bits of the name's hash.

    Args:
        name: any text, usually a module path such as ``"encoder.layers.0.dropout"``.

    Returns:
        An integer in [0, 2^60), the same on every machine. Two of a thousand names share a stream with a probability
        below 10^-12.

    Example:
        >>> stream_number("call")
        1087406749995117274
    """
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") & ((1 << 60) - 1)


class _Keyed:
    """What one keyed context knows: the seed of its pass, how often each name was used, and which rows of the data it has."""

    def __init__(self, seed: Tensor, uses: dict[str, int], rows: tuple[int, int] | None = None) -> None:
        self.seed, self.uses = seed, uses
        self.rows = None if rows is None or rows[0] == 0 else rows
        self.task = -1 if torch.compiler.is_compiling() else torch._C._current_graph_task_id()

    def next_stream(self, name: str, rows: str = SAME) -> int:
        count = self.uses.get(name, 0)
        self.uses[name] = count + 1
        if rows == FRESH and self.rows is not None:
            name = f"{name}@{self.rows[0]}"
        return _numbered_stream(name, count)


class _Thread(threading.local):
    """Of each thread: its keyed context, whether it recomputes what a checkpoint knows, and how it last used names."""

    context: _Keyed | None = None
    recomputes: bool = False

    def __init__(self) -> None:
        self.last_keyed: dict[str, bool] = {}


_THREAD = _Thread()

# How any thread last used each name: autograd runs the backward pass of accelerators in threads of its own, which know no
# forward pass.
_LAST_KEYED: dict[str, bool] = {}
_ever_keyed = False  # all that calls outside `keyed` look at until something is keyed
_REMEMBERED = 1 << 16  # names before all are forgotten: more than any model has, and no leak if names are made up


def keyed(seed: int, step: int = 0, *, pass_index: int = 0,
          rows: tuple[int, int] | None = None) -> AbstractContextManager[None]:
    """Make every mask inside the ``with`` a function of (seed, step, pass, site, index).

    No random state is read or advanced. A site is known by its module path once ``dk.swap`` or ``name_streams`` has
    named it, and otherwise by the order of the calls, so that the masks of one site do not depend on what other sites
    do. A second use of one site inside the same ``with`` gets masks of its own. Sites in training count as used also
    at rate 0: turning one rate to 0 leaves the masks of the others as they are.

    Contexts nest, the inner replacing the outer. Each thread has its own. An explicit ``generator=`` wins over the
    context. With activation checkpointing pass `checkpoint_contexts` as ``context_fn``.

    Args:
        seed: an integer in [-2^63, 2^64); the run's seed.
        step: an integer in [0, 2^64); usually the optimiser step.
        pass_index: an integer in [0, 2^32); tells several stochastic passes over the same data apart.
        rows: (begin, count), where the batch is a piece of more data: ``count`` examples from the example ``begin`` on. Each
            site whose mask has the examples in its first dimension then has its slice of the mask of all the data, so that
            masks do not depend on how the data is cut into batches or spread over processes. Default: the batch is all.

    Raises:
        InputError: for a seed, step, pass or rows out of range.

    Example:
        >>> from dropkit.variants.dropout import dropout
        >>> x = torch.ones(1000)
        >>> with keyed(7, step=3):
        ...     first = dropout(x)
        >>> with keyed(7, step=3):
        ...     again = dropout(x)
        >>> torch.equal(first, again)
        True
        >>> with keyed(7, step=3, rows=(600, 400)):  # the last 400 of 1000 examples
        ...     torch.equal(dropout(x[600:]), first[600:])
        True
    """
    number = derive_seed(check_seed(seed), check_integer(step, "step", 64), check_integer(pass_index, "pass_index", 32))
    return _activate(_Keyed(seed_tensor(number), {}, _check_rows(rows)))


def keyed_pass(seed: Tensor, rows: tuple[int, int] | None = None) -> AbstractContextManager[None]:
    """Make every mask inside the ``with`` a function of (seed, site, index), as `keyed` does, for a seed derived before.

    Args:
        seed: an int64 CPU tensor with no dimensions, as `dropkit.core.philox.derive_seed` makes it of seed, step and pass;
            under ``torch.vmap`` it may be batched, and every entry gets masks of its own.
        rows: as in `keyed`.

    Example:
        >>> from dropkit.variants.dropout import dropout
        >>> x = torch.ones(3, 100)
        >>> def one(seed):
        ...     with keyed_pass(seed):
        ...         return dropout(x)
        >>> torch.vmap(one)(torch.arange(5)).shape
        torch.Size([5, 3, 100])
    """
    return _activate(_Keyed(seed, {}, rows))


def rows_of(shape: Sequence[int], generator: torch.Generator | None = None) -> str:
    """How the next mask of a shape is related to other batches': `ROWS` where its first dimension may be the examples'.

    A mask whose first dimension is a multiple of the batch's size belongs to the examples, one that all of them share, of size
    1, is the same for all batches, and of another the examples' dimension is not known.

    Args:
        shape: the mask's.
        generator: the caller's.

    Example:
        >>> with keyed(0, rows=(8, 4)):
        ...     rows_of((4, 3)), rows_of((8, 3)), rows_of((1, 3)), rows_of((3, 4))
        ('rows', 'rows', 'same', 'fresh')
    """
    context = _THREAD.context
    if context is None or context.rows is None or generator is not None:
        return SAME
    first, count = shape[0] if len(shape) else 1, context.rows[1]
    return ROWS if first % count == 0 and first >= count else SAME if first == 1 else FRESH


def shard_of(shape: Sequence[int], rows: str) -> Shard:
    """Where a mask lies in that of all the data, as the kernels take it: empty where it is not a slice.

    Args:
        shape: the mask's.
        rows: what `rows_of` returned.

    Example:
        >>> with keyed(0, rows=(8, 4)):
        ...     shard_of((8, 3), ROWS)
        {'global_shape': (24, 3), 'offsets': (16, 0)}
    """
    context = _THREAD.context
    if rows != ROWS or context is None or context.rows is None:
        return {}
    begin, count = context.rows
    first = begin * (shape[0] // count)
    return {"global_shape": (first + shape[0], *shape[1:]), "offsets": (first, *(0,) * (len(shape) - 1))}


def site_key(name: str | None = None, generator: torch.Generator | None = None, rows: str = SAME) -> tuple[Tensor, int]:
    """The seed and the stream with which a site makes its next mask.

    Args:
        name: the site's name; ``None`` for a call without one.
        generator: draw the seed from here, keyed or not.
        rows: `FRESH` where each batch has a mask of its own (see `keyed`).

    Returns:
        The seed, an int64 CPU tensor with no dimensions, and the stream, an integer in [0, 2^60). Outside `keyed` a
        freshly drawn seed and stream 0.

    Raises:
        InputError: when a keyed site is recomputed in a backward pass, inside `keyed` or after it, by a checkpoint that
            does not know its key.

    Example:
        >>> with keyed(0):
        ...     site_key("head")[1] == stream_number("head"), site_key("head")[1] == stream_number("head#1")
        (True, True)
    """
    context = _THREAD.context
    if generator is not None:
        return draw_seed(generator), 0
    if (context is not None or _ever_keyed) and not torch.compiler.is_compiling():
        _check_recomputation(name or UNNAMED, context)
    if context is None:
        return draw_seed(), 0
    return context.seed, context.next_stream(name or UNNAMED, rows)


def is_free(generator: torch.Generator | None = None) -> bool:
    """Tell whether the next mask's seed is simply drawn on the CPU: nothing was ever keyed here, or a generator is given.

    Args:
        generator: the caller's.

    Example:
        >>> is_free(torch.Generator())
        True
    """
    if generator is None:
        return _THREAD.context is None and not _ever_keyed
    return check_generator(generator).device.type == "cpu"


def is_keyed() -> bool:
    """Tell whether the next mask is a function of a `keyed` context.

    Example:
        >>> with keyed(0):
        ...     is_keyed()
        True
    """
    return _THREAD.context is not None


def is_used() -> bool:
    """Tell whether a site has used the thread's `keyed` context, for a mask or without one.

    Example:
        >>> with keyed(0):
        ...     before, _, after = is_used(), skip_site("head"), is_used()
        >>> before, after
        (False, True)
    """
    context = _THREAD.context
    return context is not None and bool(context.uses)


def skip_site(name: str | None = None) -> None:
    """Count a use of a site that needs no mask, so that later uses keep their streams.

    Args:
        name: the site's name; ``None`` for a call without one.

    Example:
        >>> with keyed(0):
        ...     skip_site("head")
        ...     site_key("head")[1] == stream_number("head#1")
        True
    """
    context = _THREAD.context
    if context is not None:
        context.next_stream(name or UNNAMED)


def checkpoint_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for activation checkpointing inside `keyed`: the recomputation gets the masks of the forward pass.

    Pass it as ``context_fn`` of ``torch.utils.checkpoint.checkpoint(..., use_reentrant=False)``. Outside `keyed`
    checkpointing needs no help.

    Returns:
        A context for the forward pass, which does nothing, and one for its recomputation.

    Example:
        >>> from torch.utils.checkpoint import checkpoint
        >>> from dropkit.variants.dropout import dropout
        >>> x = torch.ones(100, requires_grad=True)
        >>> with keyed(7):
        ...     y = checkpoint(dropout, x, use_reentrant=False, context_fn=checkpoint_contexts)
        >>> y.sum().backward()
        >>> torch.equal(x.grad, y.detach())
        True
    """
    return nullcontext(), _Recomputation(_THREAD.context)


class _Recomputation(AbstractContextManager[None]):
    """Puts the context, if any, back as it was when a checkpointed region began; may be entered any number of times."""

    def __init__(self, context: _Keyed | None) -> None:
        self._seed = None if context is None else context.seed
        self._uses = {} if context is None else dict(context.uses)
        self._rows = None if context is None else context.rows

    def __enter__(self) -> None:
        self._outer = _THREAD.context, _THREAD.recomputes
        _THREAD.context = None if self._seed is None else _Keyed(self._seed, dict(self._uses), self._rows)
        _THREAD.recomputes = True

    def __exit__(self, *exception: object) -> None:
        _THREAD.context, _THREAD.recomputes = self._outer


@contextmanager
def _activate(context: _Keyed | None) -> Iterator[None]:
    outer, _THREAD.context = _THREAD.context, context
    try:
        yield
    finally:
        _THREAD.context = outer


def _check_rows(rows: Any) -> tuple[int, int] | None:
    if rows is None:
        return None
    if not isinstance(rows, tuple | list) or len(rows) != 2:
        raise InputError("rows are (begin, count)", got=rows, fix="Pass the first example's number and the batch's size")
    begin, count = check_integer(rows[0], "rows' begin", 40), check_integer(rows[1], "rows' count", 31)
    if count == 0:
        raise InputError("a batch has at least one row", got=rows, fix="Pass (begin, count) with a count above 0")
    return begin, count


def _numbered_stream(name: str, count: int) -> int:
    return stream_number(f"{name}#{count}" if count else name)


# What torch.compiler.assume_constant_result sets, without the second that importing the compiler takes: the hash is
# computed while tracing and the compiled code holds the number.
_numbered_stream._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _check_recomputation(name: str, context: _Keyed | None) -> None:
    # A forward inside a backward is a checkpoint's recomputation: the next use count, or a fresh draw, would be another
    # mask than the one that made the output, and the gradient would be silently wrong. A context that the region itself
    # has entered makes the same masks again.
    task = torch._C._current_graph_task_id()
    if task == -1:
        _remember(name, context is not None)
    elif not _THREAD.recomputes and (_last_keyed(name) if context is None else context.task != task):
        raise InputError("what was computed inside keyed is recomputed by a checkpoint with the same masks",
                         got=phrase("a checkpoint without the keyed context"),
                         fix="Pass use_reentrant=False and context_fn=dropkit.core.streams.checkpoint_contexts "
                             "to torch.utils.checkpoint.checkpoint")


def _remember(name: str, keyed: bool) -> None:
    global _ever_keyed
    mine = _THREAD.last_keyed
    if mine.get(name) is keyed and _LAST_KEYED.get(name) is keyed:
        return
    _ever_keyed = True
    for memory in (mine, _LAST_KEYED):
        if len(memory) >= _REMEMBERED:
            memory.clear()
        memory[name] = keyed


def _last_keyed(name: str) -> bool:
    return _THREAD.last_keyed.get(name, _LAST_KEYED.get(name, False))
