"""Which kernel masks a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import INVERTED
from dropkit.core.seeds import draw_seed
from dropkit.kernels import noise as noises
from dropkit.kernels import reference
from dropkit.kernels.native import ops as native

_PLAIN = (Tensor, torch.nn.Parameter)
_DENSE = torch.strided  # of which nested tensors call themselves, too
_HAS_NATIVE = native.KERNEL is not None
_HAS_DERIVATIVES = native.DERIVATIVES is not None
_is_compiling, _transforms = torch.compiler.is_compiling, torch._C._functorch.maybe_current_level


@dataclass(frozen=True)
class Backend:
    """Which kernel serves a device.

    Args:
        device: a device type such as ``"cpu"``.
        backend: the kernel's name.
        why: the reason it was chosen, as a clause.
    """

    device: str
    backend: str
    why: str


def backends() -> list[Backend]:
    """Which kernel serves which device of this machine, and why.

    The environment variable ``DROPKIT_KERNEL`` forces a path, read when dropkit is imported: ``reference``, or an instruction
    set of the native kernel: ``scalar``, ``avx2``, ``avx512``, ``neon``.

    Raises:
        InputError: ``DROPKIT_KERNEL`` names a path that does not exist or that this machine cannot take.

    Example:
        >>> backends()[0].device, backends()[0].backend in ("native", "reference")
        ('cpu', True)
    """
    cpu = Backend("cpu", "native" if _HAS_NATIVE else "reference", _why() + _derivatives())
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return [cpu]
    why = "pure torch, runs on every device; no faster kernel is installed for this one"
    return [cpu, Backend(accelerator.type, "reference", why)]


def apply_mask(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, scaling: int, *,
               global_shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None) -> Tensor:
    """Drop elements of x by the mask contract, with the kernel for its device.

    Args:
        x: floating-point or complex data.
        seed: int64 tensor with no dimensions, on the CPU; its 64 bits are the seed.
        rate: float64 tensor with no dimensions, on the CPU, in [0, 1].
        mask_shape: the mask's shape; as many dimensions as x, each of x's size or 1.
        stream: in [0, 2^60).
        scaling: what kept elements are multiplied by: `UNSCALED`, `INVERTED` or `ALPHA` of `dropkit.core.masks`.
        global_shape: when x is a shard, the shape of the mask of the whole tensor.
        offsets: where the shard's mask begins in it, one offset a dimension; zeros when omitted.

    Returns:
        A new tensor in which dropped elements are 0.

    Raises:
        InputError: for a shard that does not lie inside ``global_shape``, or an impossible ``DROPKIT_KERNEL``.

    Shape:
        x: any. Output: as x.

    Example:
        >>> apply_mask(torch.ones(4), torch.tensor(1), torch.tensor(0.5, dtype=torch.float64), (4,), 0, True)
        tensor([0., 0., 2., 2.])
    """
    if global_shape is not None or offsets is not None:
        global_shape, offsets = _check_shard(mask_shape, global_shape, offsets)
    if _is_native(x):
        return native.apply(x, seed, rate, mask_shape, stream, scaling, global_shape or (), offsets or ())
    _why()
    return reference.apply_mask(x, seed, rate, mask_shape, stream, scaling, global_shape=global_shape, offsets=offsets)


def apply_mask_inplace(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, scaling: int,
                       **shard: Sequence[int]) -> Tensor:
    """Drop elements of x in its own memory and return it; arguments, a shard's included, as `apply_mask`'s.

    Where x takes part in differentiation, or shares memory with itself, the result is made beside it and copied back.
    """
    alone = is_eager(x) and not (x.requires_grad and torch.is_grad_enabled())
    if alone and _is_native(x) and 0 not in x.stride():
        return native.apply_inplace(x, seed, rate, mask_shape, stream, scaling, **shard)
    return x.copy_(apply_mask(x, seed, rate, mask_shape, stream, scaling, **shard))


def add_masked(residual: Tensor, x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int,
               scaling: int, **shard: Sequence[int]) -> Tensor:
    """Return ``residual + apply_mask(x, ...)``; the native kernel does it in one pass, rounding low precision once.

    Args:
        residual: of x's shape, type and device.
        x: as in `apply_mask`, like the others.
        seed: as in `apply_mask`.
        rate: as in `apply_mask`.
        mask_shape: as in `apply_mask`.
        stream: as in `apply_mask`.
        scaling: as in `apply_mask`.
        shard: ``global_shape`` and ``offsets`` as in `apply_mask`; with them it takes two passes.
    """
    if _is_native(x) and not shard:
        return native.apply_add(residual, x, seed, rate, mask_shape, stream, scaling)
    wide = torch.promote_types(x.dtype, torch.float32)  # rounds once, as the native kernel does
    return (residual.to(wide) + apply_mask(x.to(wide), seed, rate, mask_shape, stream, scaling, **shard)).to(x.dtype)


def keep_mask(shape: Sequence[int], seed: Tensor, rate: Tensor, stream: int = 0, *, device: torch.device | str = "cpu",
              **shard: Sequence[int]) -> Tensor:
    """Where a mask keeps, for variants that do more with it than zeroing: true with probability 1 - rate.

    Args:
        shape: the mask's shape.
        seed: as in `apply_mask`.
        rate: as in `apply_mask`.
        stream: as in `apply_mask`.
        device: where the mask is wanted.
        shard: ``global_shape`` and ``offsets`` as in `apply_mask`.

    Shape:
        Output: ``shape``, bool.

    Example:
        >>> keep_mask((4,), torch.tensor(1), torch.tensor(0.5, dtype=torch.float64))
        tensor([False, False,  True,  True])
    """
    place = torch.device(device)
    if _HAS_NATIVE and place.type == "cpu":
        return native.keep_mask(seed, rate, shape, stream, **shard)
    _why()
    return reference.keep_mask(shape, seed, rate, stream, device=place, **shard)


def noise(shape: Sequence[int], seed: Tensor, law: str, stream: int = 0, *, device: torch.device | str = "cpu",
          **shard: Sequence[int]) -> Tensor:
    """Noise by the mask contract: a function of (seed, stream, index) as masks are.

    Args:
        shape: the noise's shape.
        seed: as in `apply_mask`.
        law: ``"uniform"`` on (0, 1), the end points excluded, or ``"normal"`` with mean 0 and variance 1.
        stream: as in `apply_mask`.
        device: where the noise is wanted.
        shard: ``global_shape`` and ``offsets`` as in `apply_mask`.

    Shape:
        Output: ``shape``, float32 whatever the data's type.

    Example:
        >>> noise((1000,), torch.tensor(1), "uniform").mean().round(decimals=1)
        tensor(0.5000)
    """
    place = torch.device(device)
    if _HAS_NATIVE and place.type == "cpu":
        return native.noise(seed, shape, stream, noises.law_number(law), **shard)
    _why()
    return noises.noise(shape, seed, law, stream, device=place, **shard)


def apply_noise(x: Tensor, seed: Tensor, strength: Tensor, law: str, mask_shape: Sequence[int], stream: int = 0,
                **shard: Sequence[int]) -> Tensor:
    """Multiply by noise around 1: ``x * (1 + strength * e)``.

    e is standard normal for the law ``"normal"`` and uniform on (-1, 1) for ``"uniform"``, one value for each entry of the
    mask shape. The factor is computed in float32 (float64 for float64 data), and the product is rounded once to x's type. The
    native kernel saves nothing of the noise's size for the backward pass; the reference saves the factors.

    Args:
        x: floating-point data.
        seed: as in `apply_mask`.
        strength: float64 tensor with no dimensions, on the CPU; no derivative is taken in it.
        law: ``"normal"`` or ``"uniform"``.
        mask_shape: x's shape with size 1 where the noise is shared.
        stream: as in `apply_mask`.
        shard: ``global_shape`` and ``offsets`` as in `apply_mask`.

    Raises:
        InputError: for another law, or a strength that asks for a gradient.

    Shape:
        x: any. Output: as x.

    Example:
        >>> y = apply_noise(torch.ones(4), torch.tensor(1), torch.tensor(0.1, dtype=torch.float64), "uniform", (4,))
        >>> bool(((y - 1).abs() < 0.1).all())
        True
    """
    if strength.requires_grad:
        raise InputError("apply_noise takes no derivative in strength", got="a strength that requires a gradient",
                         fix="Detach it, or multiply by noise(...) yourself")
    if _is_native(x):
        return native.apply_noise(x, seed, strength, noises.law_number(law), mask_shape, stream, **shard)
    _why()
    return noises.apply_noise(x, seed, strength, law, mask_shape, stream, **shard)


def can_draw(x: Tensor) -> bool:
    """Tell whether `draw_and_apply` takes x: an ordinary CPU tensor in eager mode, and the native kernel is there."""
    return (_HAS_NATIVE and type(x) in _PLAIN and x.is_cpu and x.dtype in native.DTYPES and x.layout is _DENSE
            and not x.is_nested and not _is_compiling() and _transforms() is None)


def draw_then_apply(x: Tensor, rate: float, generator: torch.Generator | None = None,
                    mask_shape: Sequence[int] = ()) -> Tensor:
    """Draw a seed as `dropkit.core.seeds.draw_seed` does and drop elements of x with inverted scaling.

    Args:
        x: for which `can_draw` holds.
        rate: in [0, 1].
        generator: where the seed is drawn; PyTorch's default generator when None.
        mask_shape: as in `apply_mask`; empty for x's own.
    """
    seed = draw_seed(generator)
    small = 0 < x.numel() <= native.STORED_MASK_UP_TO and x.dim() > 0  # no dimensions: the scale would promote the type
    if small and not mask_shape and x.requires_grad and torch.is_grad_enabled():
        return native.with_stored_mask(x, seed, rate)
    return native.apply(x, seed, torch.tensor(rate, dtype=torch.float64), mask_shape or x.shape, 0, INVERTED)


draw_and_apply = native.one_call() or draw_then_apply
"""`draw_then_apply` with least overhead: in one operator where the compiled derivatives are there."""


def is_eager(x: Tensor) -> bool:
    """Tell whether x is an ordinary tensor, and nothing traces or transforms the call."""
    return type(x) in _PLAIN and not _is_compiling() and _transforms() is None


def _is_native(x: Tensor) -> bool:
    return _HAS_NATIVE and x.device.type in ("cpu", "meta") and x.dtype in native.DTYPES


def _why() -> str:
    """The reason for the choice of the kernel; raises if what was asked for is not to be had."""
    if isinstance(native.WHY, InputError):
        raise native.WHY
    return native.WHY


def _derivatives() -> str:
    if not _HAS_NATIVE or _HAS_DERIVATIVES:
        return ""
    return "; derivatives in Python, since those compiled belong to another PyTorch"


def _check_shard(shape: Sequence[int], global_shape: Sequence[int] | None,
                 offsets: Sequence[int] | None) -> tuple[Sequence[int], Sequence[int]]:
    whole = shape if global_shape is None else global_shape
    begins = [0] * len(shape) if offsets is None else offsets
    if len(whole) != len(shape) or len(begins) != len(shape):
        raise InputError("global_shape and offsets have one entry a dimension of the mask", got=(whole, begins),
                         fix=f"Give {len(shape)} of each, for the mask shape {tuple(shape)}")
    if any(begin < 0 or begin + size > full for begin, size, full in zip(begins, shape, whole, strict=True)):
        raise InputError("a shard lies inside global_shape", got=(tuple(begins), tuple(shape)),
                         fix=f"Offsets plus mask shape may not exceed {tuple(whole)}")
    return whole, begins
