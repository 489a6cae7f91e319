"""Which kernel masks a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.kernels import reference


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

    Example:
        >>> backends()[0].device, backends()[0].backend
        ('cpu', 'reference')
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    devices = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
    return [Backend(device, "reference", "pure torch, runs on every device; no faster kernel is installed for this one")
            for device in devices]


def apply_mask(x: Tensor, seed: Tensor, rate: Tensor, mask_shape: Sequence[int], stream: int, rescale: bool, *,
               global_shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None) -> Tensor:
    """Drop elements of x by the mask contract, with the kernel for its device.

    Args:
        x: floating-point or complex data.
        seed: int64 tensor with no dimensions, on the CPU; its 64 bits are the seed.
        rate: float64 tensor with no dimensions, on the CPU, in [0, 1].
        mask_shape: x's shape with size 1 where the mask is shared.
        stream: in [0, 2^60).
        rescale: whether kept elements are multiplied by ``1 / (1 - rate)``.
        global_shape: when x is a shard, the shape of the mask of the whole tensor.
        offsets: where the shard's mask begins in it, one offset a dimension; zeros when omitted.

    Returns:
        A new tensor in which dropped elements are 0.

    Raises:
        InputError: for a shard that does not lie inside ``global_shape``.

    Shape:
        x: any. Output: as x.

    Example:
        >>> apply_mask(torch.ones(4), torch.tensor(1), torch.tensor(0.5, dtype=torch.float64), (4,), 0, True)
        tensor([0., 0., 2., 2.])
    """
    if global_shape is not None or offsets is not None:
        global_shape, offsets = _check_shard(mask_shape, global_shape, offsets)
    return reference.apply_mask(x, seed, rate, mask_shape, stream, rescale, global_shape=global_shape, offsets=offsets)


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
