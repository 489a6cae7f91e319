"""Uniform and normal noise by the noise map of the mask contract, in pure torch, on every device; the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dropkit.kernels.reference import _philox_block

LAWS = ("uniform", "normal")
NOISE_WORDS = 2


@torch.library.custom_op("dropkit::reference_noise", mutates_args=(), schema=(
    "(Tensor seed, SymInt[] shape, int stream, int law, Device device, SymInt[] global_shape, SymInt[] offsets) -> Tensor"))
def _noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device,
           global_shape: Sequence[int], offsets: Sequence[int]) -> Tensor:
    size = math.prod(shape)
    if device.type == "meta" or not size:
        return torch.empty(shape, dtype=torch.float32, device=device)
    index = torch.arange(size, device=device)
    blocks = torch.arange(-(-size // 4), device=device)
    even, odd = _philox_block(blocks, int(seed), stream, NOISE_WORDS)
    words = torch.stack((even[0], odd[0], even[1], odd[1]), 1).view(-1)
    if law == 0:
        return (((words >> 9).float() + 0.5) * 2.0**-23)[:size].view(list(shape))
    pairs = words.view(-1, 2)
    radius = torch.sqrt(-2 * torch.log((pairs[:, 0].float() + 0.5) * 2.0**-32))
    angle = (pairs[:, 1] >> 8).float() * (2 * math.pi * 2.0**-24)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), 1).view(-1)[index].view(list(shape))


@_noise.register_fake
def _fake_noise(seed: Tensor, shape: Sequence[int], stream: int, law: int, device: torch.device,
                global_shape: Sequence[int], offsets: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


@_noise.register_vmap
def _batched_noise(info: object, in_dims: tuple[int | None, ...], seed: Tensor, *rest: object) -> tuple[Tensor, int]:
    return torch.stack([_noise(one, *rest) for one in seed.movedim(in_dims[0] or 0, 0)]), 0


def noise(shape: Sequence[int], seed: Tensor, law: str, stream: int = 0, *, device: torch.device | str = "cpu") -> Tensor:
    """Noise of a law; float32."""
    values: Tensor = _noise(seed, shape, stream, LAWS.index(law), torch.device(device), [], [])
    return values
