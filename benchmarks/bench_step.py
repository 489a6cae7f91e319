"""A whole training step: without dropout, with PyTorch's, with dropkit's; p = 0.1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn import functional as F

import dropkit as dk
from harness import Bar, Case, compare, threads_to_time, write

P = 0.1
HELD = (Bar("dropkit", "without", 1.05),)
inductor.compile_threads = 1  # its worker processes would run beside what is timed
Dropout = Callable[[], nn.Module]


def mlp(dropout: Dropout) -> tuple[nn.Module, Tensor]:
    """Three hidden layers of 1,024 units, batch 128."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Linear(1024, 1024), nn.ReLU(), dropout()]
    return nn.Sequential(*layers, nn.Linear(1024, 10)), torch.rand(128, 1024)


def convolutions(after: Callable[[], list[nn.Module]], head: list[nn.Module]) -> nn.Module:
    """Two stages of two convolutions with BatchNorm, ``after`` behind each stage, and a hidden layer before the classes."""
    layers: list[nn.Module] = []
    for width, wider in ((3, 32), (32, 64)):
        for channels in (width, wider):
            layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
        layers += [nn.MaxPool2d(2), *after()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 64, 256), nn.ReLU(), *head, nn.Linear(256, 10))


def cnn(dropout: Dropout) -> tuple[nn.Module, Tensor]:
    """Channel dropout behind each stage and dropout before the classes, on 32 x 32 images, batch 32."""
    spatial = {"Dropout": dk.nn.Dropout2d, "Identity": nn.Identity}
    kind = dropout()
    planes = nn.Dropout2d if type(kind) is nn.Dropout else spatial[type(kind).__name__]
    return convolutions(lambda: [planes(P)], [kind]), torch.rand(32, 3, 32, 32)


def cnn_everywhere(dropout: Dropout) -> tuple[nn.Module, Tensor]:
    """Four bare convolutions with element-wise dropout behind each: the most dropout for the least work, and no bar."""
    layers: list[nn.Module] = []
    for width, wider in ((3, 32), (32, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(width, wider, 3, padding=1, stride=2 if wider > width else 1), nn.ReLU(), dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)), torch.rand(32, 3, 32, 32)


class Block(nn.Module):
    """A pre-norm transformer block with dropout on both branches."""

    def __init__(self, dropout: Dropout, width: int = 256, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.first, self.second = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out, self.drop1 = nn.Linear(width, 3 * width), nn.Linear(width, width), dropout()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), dropout(), nn.Linear(4 * width, width), dropout())

    def forward(self, x: Tensor) -> Tensor:
        """Attention, then the feed-forward branch."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.first(x)).chunk(3, -1))
        x = x + self.drop1(self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return x + self.mlp(self.second(x))


class Classifier(nn.Sequential):
    """Blocks, the mean over positions, a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Classify sequences."""
        for block in self[:-1]:
            x = block(x)
        return self[-1](x.mean(1))


def transformer(dropout: Dropout) -> tuple[nn.Module, Tensor]:
    """Two blocks of width 256 on 64 positions, batch 16."""
    return Classifier(Block(dropout), Block(dropout), nn.Linear(256, 10)), torch.rand(16, 64, 256)


def stepper(make: Callable[[Dropout], tuple[nn.Module, Tensor]], dropout: Dropout, compiled: bool) -> Callable[[], None]:
    """Return a training step: forward, backward, SGD."""
    torch.manual_seed(0)
    model, x = make(dropout)
    call = torch.compile(model) if compiled else model
    y, optimizer = torch.arange(len(x)) % 10, torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(call(x), y).backward()
        optimizer.step()

    step()  # compiles
    return step


def rivals(make: Callable[[Dropout], tuple[nn.Module, Tensor]]) -> dict[str, Callable[[], None]]:
    """Return the net without dropout, with PyTorch's and with dropkit's, as it is and compiled."""
    kinds: dict[str, Dropout] = {"without": nn.Identity, "nn.Dropout": partial(nn.Dropout, P),
                                 "dropkit": partial(dk.nn.Dropout, P)}
    return {kind + (" compiled" if compiled else ""): stepper(make, dropout, compiled)
            for compiled in (False, True) for kind, dropout in kinds.items()}


def cases() -> list[Case]:
    """Time the nets; the bar is held on one thread."""
    return [compare(f"{make.__name__} training step", rivals(make), bars if threads == 1 else (), threads=threads, seconds=8)
            for threads in threads_to_time() for make, bars in (
                (mlp, HELD), (cnn, HELD), (transformer, HELD), (cnn_everywhere, ()))]


if __name__ == "__main__":
    write("Training step", "step", cases(), f"p = {P}. Ratios are to the same net without dropout.")
