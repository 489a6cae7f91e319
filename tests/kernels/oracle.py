"""The mask contract on plain integers, written from docs/mask-contract.md and not from the kernels."""

from __future__ import annotations

import math
from itertools import product

import torch

from dropkit.core.philox import philox4x32


def block(index, seed, stream, purpose):
    key = (seed % 2**32, (seed // 2**32) % 2**32)
    return philox4x32((index % 2**32, index // 2**32, stream % 2**32, (stream // 2**32) | (purpose << 28)), key)


def dropped(n, seed, rate, stream):
    limit = math.floor(rate * 2**32 + 0.5)
    high, low = limit >> 24, limit & 0xFFFFFF
    word = block(n // 16, seed, stream, 0)[(n % 16) // 4]
    byte = word.to_bytes(4, "little")[n % 4]
    return byte < high or (byte == high and (block(n, seed, stream, 1)[0] & 0xFFFFFF) < low)


def keep_mask(shape, seed, rate, stream, global_shape=None, offsets=None):
    whole, begins = global_shape or shape, offsets or (0,) * len(shape)
    keep = []
    for place in product(*map(range, shape)):
        n = 0
        for coordinate, begin, size in zip(place, begins, whole, strict=True):
            n = n * size + coordinate + begin
        keep.append(not dropped(n, seed, rate, stream))
    return torch.tensor(keep, dtype=torch.bool).view(shape)
