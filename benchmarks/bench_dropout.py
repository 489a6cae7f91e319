"""Dropout against PyTorch's, with cloning or copying the data as the limit; p = 0.1."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn import functional as F

import dropkit as dk
from harness import Bar, Case, compare, threads_to_time, write

P = 0.1
inductor.compile_threads = 1  # its worker processes would run beside what is timed


def forward(size: int, dtype: torch.dtype, bars: list[Bar], threads: int) -> Case:
    """Time the forward pass alone, nothing requiring a gradient."""
    x, out = torch.rand(size).to(dtype), torch.empty(size, dtype=dtype)
    compiled = torch.compile(F.dropout)
    compiled(x, P)
    return compare(f"forward, {name(size)} {str(dtype).removeprefix('torch.')}", {
        "F.dropout": lambda: F.dropout(x, P), "dropkit": lambda: dk.functional.dropout(x, P),
        "F.dropout compiled": lambda: compiled(x, P), "clone": x.clone, "copy_": lambda: out.copy_(x),
    }, bars, threads=threads)


def both_ways(size: int, threads: int) -> Case:
    """Time forward and backward of the modules."""
    x, grad = torch.rand(size, requires_grad=True), torch.ones(size)

    def step(module: nn.Module) -> None:
        x.grad = None
        module(x).backward(grad)

    bound = 1 / 5 if size >= 2**18 else 1.0
    return compare(f"forward + backward, {name(size)} float32", {
        "nn.Dropout": partial(step, nn.Dropout(P)), "dropkit": partial(step, dk.nn.Dropout(P)),
    }, [Bar("dropkit", "nn.Dropout", bound)], threads=threads)


def shared(title: str, x: Tensor, module: nn.Module, mask: Tensor) -> Case:
    """Time a broadcast mask against multiplying by one that lies ready."""
    bars = [Bar("dropkit", "x * ready mask", 1.3)]
    return compare(title, {"x * ready mask": lambda: x * mask, "dropkit": lambda: module(x), "clone": x.clone}, bars)


def residual(size: int) -> Case:
    """Time dropout + residual add, fused and not."""
    x, y = torch.rand(size), torch.rand(size)
    return compare(f"dropout + residual add, {name(size)} float32", {
        "y + F.dropout": lambda: y + F.dropout(x, P), "y + dropkit": lambda: y + dk.functional.dropout(x, P),
        "dropkit fused": lambda: dk.functional.dropout_add(x, y, P), "y + x": lambda: y + x})


def saved_bytes(size: int) -> int:
    """Count the bytes that the backward pass keeps alive for ``size`` elements."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    x = torch.rand(size, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        dk.nn.Dropout(P)(x)
    return sum(kept.values())


def name(size: int) -> str:
    """Return a size in words."""
    return f"2^{size.bit_length() - 1}" if size & (size - 1) == 0 and size > 1 else str(size)


def cases() -> list[Case]:
    """Run every case; the bars are the design's, held on one thread."""
    found = []
    fast, slow = 1 / 35, 1.8
    for threads in threads_to_time():
        one = threads == 1
        found.append(forward(2**20, torch.float32, [Bar("dropkit", "F.dropout", fast), Bar("dropkit", "clone", slow)] * one,
                             threads))
        found.append(forward(2**24, torch.float32, [Bar("dropkit", "clone", 1.2)] * one, threads))
        found.append(forward(2**20, torch.bfloat16, [Bar("dropkit", "F.dropout", fast)] * one, threads))
        found += [both_ways(size, threads) for size in (1, 16, 256, 1000, 2**12, 2**14, 2**16, 2**18, 2**20, 2**24)]
    x = torch.rand(32, 64, 32, 32)
    found.append(shared("channel mask, (32, 64, 32, 32) float32", x, dk.nn.Dropout2d(P), torch.rand(32, 64, 1, 1)))
    x = torch.rand(64, 100, 256)
    found.append(shared("mask shared over time, (64, 100, 256) float32", x, dk.nn.Dropout(P, share_dims=(1,)),
                        torch.rand(64, 1, 256)))
    return [*found, residual(2**20)]


if __name__ == "__main__":
    write("Dropout", "dropout", cases(), f"p = {P}. Ratios under 1 are faster. Saved for the backward pass of 2^20 elements: "
          f"{saved_bytes(2**20)} bytes in all (bar: 64).")
