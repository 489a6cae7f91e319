"""The reference for noise: the noise map of the contract in pure torch, on every device, and the oracle for other kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import compute_dtypes
from dropkit.core.operators import define
from dropkit.core.philox import NOISE
from dropkit.kernels.reference import _global_index, _laid_out_like, philox_block

LAWS = ("uniform", "normal")

_CHUNK = 1 << 16  # blocks at a time
_ROOT_TWO = 0x3504F3  # mantissa bits of the root of 2
_LOG_TWO = float.fromhex("0x1.62e43p-1")

# ln(1 + f) / f; sin(x pi / 2) / x and cos(x pi / 2) in x^2: Chebyshev interpolants, rounded to float32, highest power last.
_LOG = tuple(map(float.fromhex, (
    "0x1p+0", "-0x1.fffff8p-2", "0x1.555550p-2", "-0x1.000428p-2", "0x1.99a476p-3", "-0x1.5427a8p-3", "0x1.226874p-3",
    "-0x1.0f2c26p-3", "0x1.087b72p-3", "-0x1.38e072p-4")))
_SINE = tuple(map(float.fromhex, ("0x1.921fb6p+0", "-0x1.4abbcep-1", "0x1.466bbap-4", "-0x1.32ca9ep-8", "0x1.4bc87cp-13")))
_COSINE = tuple(map(float.fromhex, ("0x1p+0", "-0x1.3bd3ccp+0", "0x1.03c1dcp-2", "-0x1.55c57ap-6", "0x1.d9c326p-11")))


def law_number(law: str) -> int:
    """The number of a law, as operators take it.

    Args:
        law: ``"uniform"`` or ``"normal"``.

    Raises:
        InputError: for another one.

    Example:
        >>> law_number("normal")
        1
    """
    if law not in LAWS:
        raise InputError('a law of noise is "uniform" or "normal"', got=law, fix="Pass one of them")
    return LAWS.index(law)


def noise(shape: Sequence[int], seed: Tensor, law: str, stream: int = 0, *, device: torch.device | str = "cpu",
          global_shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None) -> Tensor:
    """Noise of a law; see `dropkit.kernels.dispatch.noise`.

    Args:
        shape: the noise's shape.
        seed: int64 tensor with no dimensions, on the CPU.
        law: ``"uniform"`` on (0, 1) or standard ``"normal"``.
        stream: in [0, 2^60).
        device: where to make it.
        global_shape: the shape of the noise that this one is a piece of.
        offsets: where the piece begins in it, one offset a dimension.

    Shape:
        Output: ``shape``, float32.

    Example:
        >>> noise((2,), torch.tensor(1), "uniform").dtype
        torch.float32
    """
    whole, begins = _shard(shape, global_shape, offsets)
    values: Tensor = _noise(seed, shape, stream, law_number(law), torch.device(device), whole, begins)
    return values


def apply_noise(x: Tensor, seed: Tensor, strength: Tensor, law: str, mask_shape: Sequence[int], stream: int = 0, *,
                global_shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None) -> Tensor:
    """Multiply by noise around 1; see `dropkit.kernels.dispatch.apply_noise`.

    Args:
        x: floating-point or complex data.
        seed: as in `noise`.
        strength: float64 tensor with no dimensions, on the CPU.
        law: as in `noise`; uniform noise is spread over (-1, 1) here.
        mask_shape: x's shape with size 1 where the noise is shared.
        stream: as in `noise`.
        global_shape: as in `noise`, for ``mask_shape``.
        offsets: as in `noise`, for ``mask_shape``.

    Shape:
        x: any. Output: as x.

    Example:
        >>> apply_noise(torch.ones(2), torch.tensor(1), torch.tensor(0.0, dtype=torch.float64), "normal", (2,))
        tensor([1., 1.])
    """
    compute, wide = compute_dtypes(x.dtype)
    whole, begins = _shard(mask_shape, global_shape, offsets)
    factors: Tensor = _factors(seed, strength, mask_shape, stream, law_number(law), x.device, wide, whole, begins)
    if not x.is_contiguous():
        factors = _laid_out_like(factors, x)
    y: Tensor = (x.to(compute) * factors).to(x.dtype)
    return y


def _make_noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device,
                global_shape: Sequence[int] = (), offsets: Sequence[int] = ()) -> Tensor:
    size, key = math.prod(shape), int(seed)
    values = torch.empty(size, dtype=torch.float32, device=device)
    if device.type == "meta":
        return values.view(list(shape))
    for start in range(0, size, 4 * _CHUNK):
        part = values[start:start + 4 * _CHUNK]
        if global_shape:
            local = torch.arange(start, start + len(part), device=device)
            index = _global_index(local, shape, global_shape, offsets)
            part.copy_(_blocks(index // 4, key, stream, law).gather(1, (index % 4)[:, None]).view(-1))
        else:
            index = torch.arange(start // 4, -(-(start + len(part)) // 4), device=device)
            part.copy_(_blocks(index, key, stream, law).view(-1)[:len(part)])
    return values.view(list(shape))


def _make_factors(seed: Tensor, strength: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device,
                  dtype: torch.dtype, global_shape: Sequence[int] = (), offsets: Sequence[int] = ()) -> Tensor:
    e: Tensor = _noise(seed, shape, stream, law, device, global_shape, offsets)
    if law == 0:
        e.mul_(2).sub_(1)  # exact
    return e.to(dtype).mul_(strength.to(device, dtype)).add_(1)


def _fake_noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device, *_: object) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


def _fake_factors(seed: Tensor, strength: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device,
                  dtype: torch.dtype, *_: object) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _batched_noise(info: object, in_dims: tuple[int | None, ...], seed: Tensor, *rest: object) -> tuple[Tensor, int]:
    return torch.stack([_noise(one, *rest) for one in seed.movedim(in_dims[0] or 0, 0)]), 0


def _batched_factors(info: object, in_dims: tuple[int | None, ...], seed: Tensor, strength: Tensor,
                     *rest: object) -> tuple[Tensor, int]:
    batch = next(value.shape[dim] for value, dim in zip((seed, strength), in_dims, strict=False) if dim is not None)
    rows = zip(seed.expand(batch), strength.expand(batch), strict=True)
    return torch.stack([_factors(*row, *rest) for row in rows]), 0


# Opaque steps to compilers and vmap, as the reference's masks are; the factors too, whose product and sum a compiler for
# an accelerator would otherwise round once.
_noise = define("reference_noise(Tensor seed, SymInt[] shape, int stream, int law, Device device, SymInt[] global_shape=[], "
                "SymInt[] offsets=[]) -> Tensor", _make_noise, _fake_noise, batched=_batched_noise)
_factors = define(
    "reference_noise_factors(Tensor seed, Tensor strength, SymInt[] shape, int stream, int law, Device device, "
    "ScalarType dtype, SymInt[] global_shape=[], SymInt[] offsets=[]) -> Tensor",
    _make_factors, _fake_factors, batched=_batched_factors)


def _shard(shape: Sequence[int], global_shape: Sequence[int] | None,
           offsets: Sequence[int] | None) -> tuple[list[int], list[int]]:
    return ([], []) if global_shape is None else (list(global_shape), list(offsets or [0] * len(shape)))


def _blocks(index: Tensor, seed: int, stream: int, law: int) -> Tensor:
    """The four values of each block, a row a block."""
    even, odd = philox_block(index, seed, stream, NOISE)
    return (_uniform(even, odd) if law == 0 else _normal(even, odd)).reshape(-1, 4)


def _uniform(even: Tensor, odd: Tensor) -> Tensor:
    words = torch.stack((even, odd), 2).transpose(0, 1)  # (blocks, pair, word of the pair)
    return ((words >> 9).float() + 0.5) * 2.0**-23


def _normal(even: Tensor, odd: Tensor) -> Tensor:
    """Box and Muller's map of the first word of each pair to a radius and of the second to an angle.

    Only additions, multiplications and roots of float32, each rounded correctly, so that every kernel can do the same.
    """
    u = ((even >> 1).float() + 0.5) * 2.0**-31
    bits = u.view(torch.int32)
    fraction = bits & 0x7FFFFF
    high = (fraction > _ROOT_TWO).int()
    exponent = ((bits >> 23) - 127 + high).float()
    f = (fraction | (0x3F800000 - (high << 23))).view(torch.float32) - 1.0
    square = -2.0 * (exponent * _LOG_TWO + f * _polynomial(_LOG, f))
    radius = square.double().sqrt().float()  # rounds correctly, which torch's root of float32 does not everywhere
    x = (((odd & 0x3FFFFFFF) >> 7).float() + 0.5) * 2.0**-23 - 0.5
    sine, cosine = _polynomial(_SINE, x * x) * x, _polynomial(_COSINE, x * x)
    quadrant = odd >> 30
    swapped = quadrant % 2 == 1
    along, across = torch.where(swapped, sine, cosine), torch.where(swapped, cosine, sine)
    along = torch.where((quadrant == 1) | (quadrant == 2), -along, along)
    across = torch.where(quadrant >= 2, -across, across)
    return torch.stack((radius * along, radius * across), 2).transpose(0, 1)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
