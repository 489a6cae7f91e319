"""Seeds: validated where a user gives one, drawn where none is given."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.operators import define

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


def draw_seed(generator: torch.Generator | None = None) -> Tensor:
    """A fresh 64-bit seed from PyTorch's random state.

    Drawn as one call of ``torch.randint``, so that ``torch.manual_seed``, ``torch.random.fork_rng``, activation
    checkpointing and the randomness modes of ``torch.vmap`` govern dropout as they govern PyTorch's own sampling.

    Args:
        generator: where to draw from; PyTorch's default CPU generator when omitted, whatever the data's device.

    Returns:
        An int64 CPU tensor with no dimensions; its 64 bits are read as unsigned. The one value 2^63 - 1 never occurs,
        because the upper end of a ``randint`` is exclusive.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> draw_seed().dtype, draw_seed().shape
        (torch.int64, torch.Size([]))
    """
    if generator is None:
        return _opaque_draw() if torch.compiler.is_compiling() else torch.randint(_LOWEST, _HIGHEST, (), device="cpu")
    check_generator(generator)
    seed = torch.randint(_LOWEST, _HIGHEST, (), generator=generator, device=generator.device)
    return seed.cpu()


def check_generator(generator: Any) -> torch.Generator:
    """A random generator, or an error for anything else.

    Args:
        generator: what the caller passed.

    Raises:
        InputError: it is not a generator.

    Example:
        >>> check_generator(torch.Generator()).device
        device(type='cpu')
    """
    if not isinstance(generator, torch.Generator):
        raise InputError("a generator is a torch.Generator", got=generator,
                         fix="Pass torch.Generator().manual_seed(0), or use dk.keyed(seed) for masks by a seed")
    return generator


def check_integer(value: Any, name: str, bits: int) -> int:
    """An integer in [0, 2^bits), or an error that names it.

    Args:
        value: an int, a NumPy integer or an integer tensor with no dimensions.
        name: what the caller calls it.
        bits: width of the allowed range.

    Raises:
        InputError: for bools, floats, and integers out of range.

    Example:
        >>> check_integer(3, "step", bits=64)
        3
    """
    number = _integer(value)
    if number is None or not 0 <= number < 1 << bits:
        raise InputError(f"{name} is an integer in [0, 2^{bits})", got=value, fix=f"Pass an int such as {name}=0")
    return number


def check_seed(value: Any) -> int:
    """A seed as an integer in [0, 2^64).

    Args:
        value: an integer in [-2^63, 2^64), as ``torch.manual_seed`` takes; a negative one stands for its 64 bits.

    Raises:
        InputError: for bools, floats, and integers out of range.

    Example:
        >>> check_seed(7), check_seed(-1) == 2**64 - 1
        (7, True)
    """
    number = _integer(value)
    if number is None or not _LOWEST <= number < 1 << 64:
        raise InputError("a seed is an integer in [-2^63, 2^64)", got=value, fix="Pass an int such as seed=0")
    return number % (1 << 64)


def seed_tensor(seed: int) -> Tensor:
    """A seed as the kernels take it: the same 64 bits in an int64 CPU tensor with no dimensions.

    Args:
        seed: in [0, 2^64).

    Example:
        >>> seed_tensor(2**64 - 1)
        tensor(-1)
    """
    return torch.tensor(seed - (1 << 64) if seed > _HIGHEST else seed, dtype=torch.int64, device="cpu")


# Compilers may replace torch.randint by a generator of their own; through an operator that they cannot look into,
# compiled code draws the seeds that eager code draws. Despite the tag, compilers merge two calls with equal arguments,
# and two sites would share a mask; a fresh empty tensor is never equal to another.
_draw_once = define("draw_seed(Tensor fresh) -> Tensor", lambda fresh: torch.randint(_LOWEST, _HIGHEST, (), device="cpu"),
                    torch.empty_like, tags=(torch.Tag.nondeterministic_seeded,))


def _opaque_draw() -> Tensor:
    seed: Tensor = _draw_once(torch.empty((), dtype=torch.int64, device="cpu"))
    return seed


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or (isinstance(value, torch.Tensor) and (value.dim() > 0 or value.dtype is torch.bool)):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):  # RuntimeError: a floating tensor
        return None
