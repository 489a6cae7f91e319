"""The reference kernel: the mask contract in pure torch, on every device, and the oracle for every other kernel."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from dropkit.core.masks import ALPHA, INVERTED, SELU_LOWEST, UNSCALED, compute_dtypes
from dropkit.core.operators import define
from dropkit.core.philox import BUMPS, MASK_BYTES, MULTIPLIERS, ROUNDS, TIE_BREAK, WORD, counter_words, key_words
from dropkit.core.rates import WHOLE, threshold

_CHUNK = 1 << 16  # blocks at a time: 2^20 elements, so that temporaries stay at a few MB whatever the mask's size
_BYTES = 16  # mask bytes in a block


def philox4x32(even: Tensor, odd: Tensor, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Philox4x32-10 on tensors of counters.

    Two words travel in one tensor: at sizes where calling torch costs more than computing, that is twice as fast.

    Args:
        even: counter words 0 and 2, int64 in [0, 2^32).
        odd: counter words 1 and 3.
        key: two words in [0, 2^32).

    Returns:
        Words 0 and 2, and words 1 and 3.

    Shape:
        even, odd: (2, n). Outputs: (2, n) each.

    Example:
        >>> zeros = torch.zeros(2, 1, dtype=torch.int64)
        >>> even, odd = philox4x32(zeros, zeros, (0, 0))
        >>> [f"{int(word):08x}" for word in (even[0], odd[0], even[1], odd[1])]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    multipliers = torch.tensor(MULTIPLIERS, device=even.device)[:, None]
    schedule = [[(word + turn * bump) & WORD for word, bump in zip(key, BUMPS, strict=True)] for turn in range(ROUNDS)]
    for keys in torch.tensor(schedule, device=even.device)[:, :, None].unbind():
        # Products wrap modulo 2^64, and `odd` keeps their high halves: one `and` after the `xor` clears the rest, as it
        # clears the sign that the arithmetic shift copies.
        product = torch.mul(even, multipliers).flip(0)
        even = (product >> 32).bitwise_xor_(odd).bitwise_xor_(keys).bitwise_and_(WORD)
        odd = product
    return even, odd & WORD


def keep_mask(shape: Sequence[int], seed: Tensor, rate: Tensor, stream: int = 0, *,
              device: torch.device | str = "cpu", global_shape: Sequence[int] | None = None,
              offsets: Sequence[int] | None = None) -> Tensor:
    """Where a mask keeps.

    Element n (its row-major index in the mask) is dropped when ``b < t8``, or ``b == t8`` and ``r < t24``: b is its
    mask byte, r its 24 tie-breaking bits, t8 and t24 the high 8 and low 24 bits of ``floor(p 2^32 + 0.5)``.

    Args:
        shape: the mask's shape.
        seed: int64 tensor with no dimensions, on the CPU.
        rate: float64 tensor with no dimensions, on the CPU, in [0, 1]: the probability p of dropping.
        stream: in [0, 2^60).
        device: where to make the mask.
        global_shape: the shape of the mask that this one is a piece of.
        offsets: where the piece begins in it, one offset a dimension.

    Returns:
        A bool tensor, true where an element is kept.

    Shape:
        Output: ``shape``.

    Example:
        >>> keep_mask((2, 4), torch.tensor(1), torch.tensor(0.5, dtype=torch.float64))
        tensor([[False, False,  True,  True],
                [ True, False, False,  True]])
    """
    whole = global_shape is None
    keep: Tensor = _keep_mask(seed, rate, shape, stream, torch.device(device),
                              [] if whole else list(global_shape or ()),
                              [] if whole else list(offsets or [0] * len(shape)))
    return keep


def apply_mask(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, scaling: int, *,
               global_shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None) -> Tensor:
    """Dropped elements become +0 by selection, kept ones are scaled.

    Scaling is done in float32 (float64 for float64 data) and rounded once. Differentiable any number of times, forwards
    and backwards, in x.

    Args:
        x: floating-point or complex data.
        seed: int64 tensor with no dimensions, on the CPU.
        rate: float64 tensor with no dimensions, on the CPU.
        mask_shape: x's shape with size 1 where the mask is shared.
        stream: in [0, 2^60).
        scaling: what kept elements are multiplied by, as in `dropkit.core.masks`.
        global_shape: the shape of the mask of which ``mask_shape`` is a piece.
        offsets: where the piece begins in it.

    Shape:
        x: any. Output: as x.

    Example:
        >>> apply_mask(torch.ones(4), torch.tensor(1), torch.tensor(0.5, dtype=torch.float64), (4,), 0, True)
        tensor([0., 0., 2., 2.])
    """
    keep = keep_mask(mask_shape, seed, rate, stream, device=x.device, global_shape=global_shape, offsets=offsets)
    if scaling != UNSCALED:
        compute, factor = compute_dtypes(x.dtype)
        x = (x.to(compute) * scale(rate, scaling).to(factor)).to(x.dtype)
    return torch.where(keep if x.is_contiguous() else _laid_out_like(keep, x), x, 0.0)


def scale(rate: Tensor, scaling: int = INVERTED) -> Tensor:
    """What kept elements are multiplied by, or 0 where none is kept.

    ``INVERTED``: the inverse of the probability of keeping. ``ALPHA``: ``((1 - p) (1 + p a'^2))^(-1/2)`` with SELU's lowest
    value a'. The probability is that which the mask realises, a multiple of 2^-32.

    Args:
        rate: float64 tensor with no dimensions.
        scaling: ``INVERTED`` or ``ALPHA``.

    Example:
        >>> scale(torch.tensor(0.75, dtype=torch.float64)), scale(torch.tensor(1.0, dtype=torch.float64))
        (tensor(4., dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    kept = WHOLE - torch.floor(rate * WHOLE + 0.5)
    keep = kept / WHOLE
    factor = 1 / (keep * (1 + (1 - keep) * SELU_LOWEST**2)).sqrt() if scaling == ALPHA else WHOLE / kept
    return torch.where(kept > 0, factor, 0.0)


def _make_keep_mask(seed: Tensor, rate: Tensor, shape: Sequence[int], stream: int, device: torch.device,
                    global_shape: Sequence[int], offsets: Sequence[int]) -> Tensor:
    limit, size = threshold(float(rate)), math.prod(shape)
    keep = torch.full((size,), limit < WHOLE, dtype=torch.bool, device=device)
    if 0 < limit < WHOLE and device.type != "meta":
        for start in range(0, size, _CHUNK * _BYTES):
            stop = min(size, start + _CHUNK * _BYTES)
            local = torch.arange(start, stop, device=device) if global_shape else None
            index = start if local is None else _global_index(local, shape, global_shape, offsets)
            _keep_chunk(keep[start:stop], index, int(seed), limit, stream)
    return keep.view(list(shape))


def _fake_keep_mask(seed: Tensor, rate: Tensor, shape: Sequence[int], stream: int, device: torch.device,
                    global_shape: Sequence[int], offsets: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.bool, device=device)


def _batched_keep_mask(info: object, in_dims: tuple[int | None, ...], seed: Tensor, rate: Tensor,
                       *rest: object) -> tuple[Tensor, int]:
    batch = next(value.shape[dim] for value, dim in zip((seed, rate), in_dims, strict=False) if dim is not None)
    seeds, rates = (value.expand(batch) for value in (seed, rate))
    return torch.stack([_keep_mask(one, p, *rest) for one, p in zip(seeds, rates, strict=True)]), 0


# An operator, not a plain function: compilers, exporters, fake tensors and vmap then take the mask as one opaque step,
# although refining only the ties needs a shape that depends on the data. Costs 10 us of the 200 us that a mask takes.
_keep_mask = define(
    "reference_keep_mask(Tensor seed, Tensor rate, SymInt[] shape, int stream, Device device, SymInt[] global_shape, "
    "SymInt[] offsets) -> Tensor", _make_keep_mask, _fake_keep_mask, batched=_batched_keep_mask)


def _laid_out_like(keep: Tensor, x: Tensor) -> Tensor:
    """The mask with its dimensions in x's order in memory: `torch.where` gives its result the layout of the mask."""
    order = sorted(range(x.dim()), key=lambda dim: x.stride(dim), reverse=True)
    inverse = [order.index(dim) for dim in range(x.dim())]
    return keep.permute(order).contiguous().permute(inverse)


def _keep_chunk(keep: Tensor, index: int | Tensor, seed: int, limit: int, stream: int) -> None:
    """Write where a chunk keeps; its elements have consecutive indices from an int that blocks divide, or any."""
    size, device = keep.numel(), keep.device
    if isinstance(index, int):
        blocks = torch.arange(index // _BYTES, -(-(index + size) // _BYTES), device=device)
        drawn = _block_bytes(blocks, seed, stream).view(-1)[:size]
    else:
        drawn = _block_bytes(index // _BYTES, seed, stream).gather(1, (index % _BYTES)[:, None]).view(-1)
    high, low = limit >> 24, limit & 0xFFFFFF
    torch.ge(drawn, high, out=keep)
    if low:
        ties = (drawn == high).nonzero().view(-1)
        if ties.numel():
            numbers = ties + index if isinstance(index, int) else index[ties]
            keep[ties] = (philox_block(numbers, seed, stream, TIE_BREAK)[0][0] & 0xFFFFFF) >= low


def _block_bytes(blocks: Tensor, seed: int, stream: int) -> Tensor:
    even, odd = philox_block(blocks, seed, stream, MASK_BYTES)
    words = torch.empty(blocks.numel(), 4, dtype=torch.int32, device=blocks.device)
    words[:, 0::2], words[:, 1::2] = even.t(), odd.t()  # wraps to the same 32 bits
    drawn = words.view(torch.uint8)
    return drawn if sys.byteorder == "little" else drawn.view(-1, 4, 4).flip(-1).reshape(-1, _BYTES)


def philox_block(index: Tensor, seed: int, stream: int, purpose: int) -> tuple[Tensor, Tensor]:
    """The blocks of some indices for a purpose; see `philox4x32`.

    Args:
        index: int64, of one dimension.
        seed: any integer; its low 64 bits count.
        stream: in [0, 2^60).
        purpose: in [0, 16).

    Shape:
        index: (n,). Outputs: (2, n) each, words 0 and 2, and words 1 and 3.

    Example:
        >>> [words.shape for words in philox_block(torch.arange(3), 0, 0, MASK_BYTES)]
        [torch.Size([2, 3]), torch.Size([2, 3])]
    """
    _, _, c2, c3 = counter_words(0, stream, purpose)
    even = torch.stack((index & WORD, torch.full_like(index, c2)))
    return philox4x32(even, torch.stack((index >> 32, torch.full_like(index, c3))), key_words(seed))


def _global_index(local: Tensor, shape: Sequence[int], global_shape: Sequence[int], offsets: Sequence[int]) -> Tensor:
    index, stride = torch.zeros_like(local), 1
    for size, whole, offset in reversed(list(zip(shape, global_shape, offsets, strict=True))):
        index += (local % size + offset) * stride
        local, stride = local // size, stride * whole
    return index
