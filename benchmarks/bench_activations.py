"""Activation variants against the line of PyTorch that each replaces; 2^20 float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dropkit.variants.alpha import AlphaDropout, FeatureAlphaDropout
from dropkit.variants.denoising import DenoisingMask
from dropkit.variants.locked import LockedDropout
from dropkit.variants.noisy import GaussianDropout, UniformDropout
from harness import Bar, Case, compare, write

P, B = 0.1, 0.1
KEEP, DEVIATION = 1 - P, (P / (1 - P)) ** 0.5
Call = Callable[[Tensor], Tensor]


def gaussian(x: Tensor) -> Tensor:
    """Multiply by normal noise as one writes it in PyTorch."""
    return x * torch.randn_like(x).mul_(DEVIATION).add_(1)


def uniform(x: Tensor) -> Tensor:
    """Multiply by uniform noise as one writes it in PyTorch."""
    return x * torch.empty_like(x).uniform_(1 - B, 1 + B)


def locked(x: Tensor) -> Tensor:
    """Share a mask over time as AWD-LSTM's descendants do."""
    return x * x.new_empty(1, x.shape[1], x.shape[2]).bernoulli_(KEEP).div_(KEEP).expand_as(x)


def denoising(x: Tensor) -> Tensor:
    """Mask without rescaling as one writes it in PyTorch."""
    return x * torch.bernoulli(torch.full_like(x, KEEP))


def both(title: str, x: Tensor, rival: Call, ours: Call) -> list[Case]:
    """Time the forward pass, then forward and backward."""
    grad, leaf = torch.ones_like(x), x.clone().requires_grad_()

    def step(call: Call) -> None:
        leaf.grad = None
        call(leaf).backward(grad)

    bars = [Bar("dropkit", "torch", 1.0)]
    return [compare(f"{title}, forward", {"torch": lambda: rival(x), "dropkit": lambda: ours(x), "clone": x.clone}, bars),
            compare(f"{title}, forward + backward", {"torch": lambda: step(rival), "dropkit": lambda: step(ours)}, bars)]


def cases() -> list[Case]:
    """Run every case."""
    flat, images, sequences = torch.randn(2**20), torch.randn(32, 32, 32, 32), torch.randn(64, 64, 256)
    found = []
    for title, x, rival, ours in (
            ("AlphaDropout, 2^20", flat, nn.AlphaDropout(P), AlphaDropout(P)),
            ("FeatureAlphaDropout, (32, 32, 32, 32)", images, nn.FeatureAlphaDropout(P), FeatureAlphaDropout(P)),
            ("GaussianDropout, 2^20", flat, gaussian, GaussianDropout(P)),
            ("UniformDropout, 2^20", flat, uniform, UniformDropout(B)),
            ("LockedDropout, (64, 64, 256)", sequences, locked, LockedDropout(P)),
            ("DenoisingMask, 2^20", flat, denoising, DenoisingMask(P))):
        found += both(title, x, rival, ours)
    return found


if __name__ == "__main__":
    write("Activations", "activations", cases(), f"p = {P}, b = {B}, float32, one thread. Ratios under 1 are faster.")
