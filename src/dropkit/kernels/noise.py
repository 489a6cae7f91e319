"""The reference for noise: the noise map of the contract in pure torch, on every device, and the oracle for other kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.philox import NOISE
from dropkit.kernels.reference import philox_block

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


def noise(shape: Sequence[int], seed: Tensor, law: str, stream: int = 0, *, device: torch.device | str = "cpu") -> Tensor:
    """Noise of a law; see ``dropkit.kernels.dispatch.noise``, whose arguments these are.

    Args:
        shape: the noise's shape.
        seed: int64 tensor with no dimensions, on the CPU.
        law: ``"uniform"`` on (0, 1) or standard ``"normal"``.
        stream: in [0, 2^60).
        device: where to make it.

    Shape:
        Output: ``shape``, float32.

    Example:
        >>> noise((2,), torch.tensor(1), "uniform").dtype
        torch.float32
    """
    values: Tensor = _noise(seed, shape, stream, law_number(law), torch.device(device))
    return values


# One opaque step to compilers and vmap, as the reference's masks are.
@torch.library.custom_op("dropkit::reference_noise", mutates_args=(), schema=(
    "(Tensor seed, SymInt[] shape, int stream, int law, Device device) -> Tensor"))
def _noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device) -> Tensor:
    size = math.prod(shape)
    values = torch.empty(size, dtype=torch.float32, device=device)
    if device.type == "meta":
        return values.view(list(shape))
    for block in range(0, -(-size // 4), _CHUNK):
        part = values[4 * block:4 * (block + _CHUNK)]
        even, odd = philox_block(torch.arange(block, block - (-len(part) // 4), device=device), int(seed), stream, NOISE)
        made = _uniform(even, odd) if law == 0 else _normal(even, odd)
        part.copy_(made.reshape(-1)[:len(part)])
    return values.view(list(shape))


@_noise.register_fake
def _fake_noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


@_noise.register_vmap
def _batched_noise(info: object, in_dims: tuple[int | None, ...], seed: Tensor, *rest: object) -> tuple[Tensor, int]:
    return torch.stack([_noise(one, *rest) for one in seed.movedim(in_dims[0] or 0, 0)]), 0


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
