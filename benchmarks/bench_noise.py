"""Noise, and multiplying by it, against PyTorch's own generators; and a mask as a bool tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from dropkit.kernels import dispatch
from harness import Bar, Case, compare, threads_to_time, write

SEED, STRENGTH, RATE = torch.tensor(1), torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
S = float(STRENGTH)


def normal(x: Tensor) -> Tensor:
    """Multiply by normal noise as one writes it in PyTorch."""
    return x * torch.randn_like(x).mul_(S).add_(1)


def uniform(x: Tensor) -> Tensor:
    """Multiply by uniform noise as one writes it in PyTorch."""
    return x * (torch.rand_like(x) * 2 * S + 1 - S)


def uniform_in_place(x: Tensor) -> Tensor:
    """The same in fewer passes."""
    return x * torch.empty_like(x).uniform_(1 - S, 1 + S)


def multiplied(size: int, dtype: torch.dtype, threads: int) -> list[Case]:
    """Time the product with noise, forward."""
    x, bars = torch.randn(size).to(dtype), [Bar("dropkit", "torch", 1.0)] * (threads == 1)
    title = f"2^{size.bit_length() - 1} {str(dtype).removeprefix('torch.')}"
    return [
        compare(f"x times normal noise, {title}", {
            "torch": lambda: normal(x), "dropkit": lambda: dispatch.apply_noise(x, SEED, STRENGTH, "normal", x.shape),
            "clone": x.clone}, bars, threads=threads),
        compare(f"x times uniform noise, {title}", {
            "torch": lambda: uniform(x), "torch, fewer passes": lambda: uniform_in_place(x),
            "dropkit": lambda: dispatch.apply_noise(x, SEED, STRENGTH, "uniform", x.shape)}, bars, threads=threads)]


def both_ways(size: int) -> Case:
    """Time forward and backward."""
    x, grad = torch.randn(size, requires_grad=True), torch.ones(size)

    def theirs() -> None:
        x.grad = None
        normal(x).backward(grad)

    def ours() -> None:
        x.grad = None
        dispatch.apply_noise(x, SEED, STRENGTH, "normal", x.shape).backward(grad)

    return compare(f"x times normal noise, forward + backward, {size} float32", {"torch": theirs, "dropkit": ours},
                   [Bar("dropkit", "torch", 1.0)])


def across(x: Tensor) -> Case:
    """Time noise whose order runs across memory."""
    return compare("x times normal noise, channels last, (32, 32, 32, 32) float32", {
        "torch": lambda: normal(x), "dropkit": lambda: dispatch.apply_noise(x, SEED, STRENGTH, "normal", x.shape),
        "clone": x.clone}, [Bar("dropkit", "torch", 1.0)])


def shared(title: str, x: Tensor, shape: tuple[int, ...]) -> Case:
    """Time noise that is shared against multiplying by factors that lie ready."""
    ready = torch.rand(shape)
    return compare(f"x times normal noise, {title} float32", {
        "x * ready factors": lambda: x * ready, "torch": lambda: x * torch.randn(shape).mul_(S).add_(1),
        "dropkit": lambda: dispatch.apply_noise(x, SEED, STRENGTH, "normal", shape), "clone": x.clone},
        [Bar("dropkit", "x * ready factors", 1.3)])


def plain(size: int, threads: int) -> list[Case]:
    """Time noise and masks by themselves."""
    bars, title = [Bar("dropkit", "torch", 1.0)] * (threads == 1), f"2^{size.bit_length() - 1}"
    return [
        compare(f"normal noise, {title}", {
            "torch": lambda: torch.randn(size), "dropkit": lambda: dispatch.noise((size,), SEED, "normal")},
            bars, threads=threads),
        compare(f"uniform noise, {title}", {
            "torch": lambda: torch.rand(size), "dropkit": lambda: dispatch.noise((size,), SEED, "uniform")},
            bars, threads=threads),
        compare(f"keep mask, {title}", {
            "torch": lambda: torch.empty(size, dtype=torch.bool).bernoulli_(1 - S),
            "dropkit": lambda: dispatch.keep_mask((size,), SEED, RATE)}, bars, threads=threads)]


def cases() -> list[Case]:
    """Run every case."""
    found = []
    for threads in threads_to_time():
        found += plain(2**20, threads)
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            found += multiplied(2**20, dtype, threads)
    found += [both_ways(size) for size in (1, 1000, 2**14, 2**20)]
    images, sequences = torch.randn(32, 32, 32, 32), torch.randn(64, 64, 256)
    return [*found, across(images.contiguous(memory_format=torch.channels_last)),
            shared("one value a channel, (32, 32, 32, 32)", images, (32, 32, 1, 1)),
            shared("shared over time, (64, 64, 256)", sequences, (64, 1, 256))]


if __name__ == "__main__":
    write("Noise", "noise", cases(), f"Strength {S}. Ratios under 1 are faster.")
