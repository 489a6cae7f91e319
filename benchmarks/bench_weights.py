"""Dropout of weights against what is usually written by hand; forward and backward, one thread."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.variants.drop_connect import DropConnect
from dropkit.variants.max_norm import max_norm_
from dropkit.variants.mixout import mixout
from dropkit.variants.targeted import targeted_dropout
from dropkit.variants.weight_drop import WeightDrop
from harness import Bar, Case, compare, write

P = 0.5


class RawWeights(nn.Module):
    """AWD-LSTM's way: raw parameters beside the module, and a dropped copy set as an attribute before each forward pass."""

    def __init__(self, lstm: nn.LSTM, name: str = "weight_hh_l0") -> None:
        super().__init__()
        self.lstm, self.name = lstm, name
        self.raw = nn.Parameter(getattr(lstm, name).data)
        del lstm._parameters[name]

    def forward(self, x: Tensor) -> Tensor:
        """Drop, set, run."""
        setattr(self.lstm, self.name, F.dropout(self.raw, P))
        return self.lstm(x)[0]


def step(call: Callable[..., Tensor], *leaves: Tensor) -> Callable[[], None]:
    """Return a forward and a backward pass that leave no gradient behind."""
    grad = torch.ones_like(call())

    def run() -> None:
        torch.autograd.grad(call(), leaves, grad)

    return run


def against(name: str, other: str, theirs: Callable[[], object], ours: Callable[[], object]) -> Case:
    """Time dropkit against one way of doing it by hand."""
    return compare(name, {other: theirs, "dropkit": ours}, [Bar("dropkit", other, 1.0)])


def lstm(steps: int, batch: int, size: int) -> Case:
    """Time an LSTM with dropped recurrent weights."""
    x = torch.randn(steps, batch, size)
    theirs, ours = RawWeights(nn.LSTM(size, size)), WeightDrop(nn.LSTM(size, size), P)
    return against(f"WeightDrop, LSTM({size}, {size}), input {tuple(x.shape)}", "AWD-LSTM's wrapper",
                   step(lambda: theirs(x), *theirs.parameters()), step(lambda: ours(x)[0], *ours.parameters()))


def connect(rows: int, size: int) -> Case:
    """Time DropConnect with one mask a batch."""
    x, layer = torch.randn(rows, size), nn.Linear(size, size)
    ours = DropConnect(layer, P, per="batch")
    return against(f"DropConnect per batch, Linear({size}, {size}), {rows} examples", "F.linear of F.dropout",
                   step(lambda: F.linear(x, F.dropout(layer.weight, P), layer.bias), *layer.parameters()),
                   step(lambda: ours(x), *layer.parameters()))


def connect_each(rows: int, size: int) -> Case:
    """Time DropConnect with a mask for each example."""
    x, layer = torch.randn(rows, size), nn.Linear(size, size)
    ours = DropConnect(layer, P)

    def theirs() -> Tensor:
        weights = F.dropout(layer.weight.expand(rows, size, size), P)
        return torch.einsum("noi,ni->no", weights, x) + layer.bias

    return against(f"DropConnect per example, Linear({size}, {size}), {rows} examples", "einsum of F.dropout",
                   step(theirs, *layer.parameters()), step(lambda: ours(x), *layer.parameters()))


def mix(size: int) -> Case:
    """Time the mixing of weights with pretrained ones."""
    weight, pretrained, p = torch.randn(size, size, requires_grad=True), torch.randn(size, size), 0.7

    def theirs() -> Tensor:
        mask = torch.bernoulli(torch.full_like(weight, p))
        return (mask * pretrained + (1 - mask) * weight - p * pretrained) / (1 - p)

    return against(f"Mixout, ({size}, {size})", "the paper's formula", step(theirs, weight),
                   step(lambda: mixout(weight, pretrained, p), weight))


def target(size: int) -> Case:
    """Time targeted dropout of single weights."""
    weight = torch.randn(size, size, requires_grad=True)

    def theirs() -> Tensor:
        magnitude = weight.detach().abs()
        limit = magnitude.sort(dim=1).values[:, size // 2 - 1 : size // 2]
        return weight * (1 - ((magnitude <= limit) & (torch.rand_like(weight) < P)).to(weight.dtype))

    return against(f"TargetedDropout, ({size}, {size})", "a sort and a product", step(theirs, weight),
                   step(lambda: targeted_dropout(weight, P), weight))


def bound(size: int, scale: float, what: str) -> Case:
    """Time max-norm, which has no backward pass; bounding is idempotent, so each call begins with a copy."""
    weight = torch.randn(size, size).mul_(scale / size**0.5)
    work = torch.empty_like(weight)
    return compare(f"max-norm, ({size}, {size}), {what}, with a copy", {
        "torch.renorm, copied back": lambda: work.copy_(weight).copy_(torch.renorm(work, 2, 0, 3.0)),
        "dropkit": lambda: max_norm_(work.copy_(weight), 3.0), "renorm_": lambda: work.copy_(weight).renorm_(2, 0, 3.0),
    }, [Bar("dropkit", "torch.renorm, copied back", 1.0)])


def cases() -> list[Case]:
    """Run every case."""
    return [lstm(35, 20, 200), lstm(70, 20, 400), connect(64, 512), connect(256, 1024), connect_each(32, 256), mix(1024),
            mix(256), target(1024), bound(1024, 1.0, "within the bound"), bound(1024, 9.0, "beyond the bound"),
            bound(256, 9.0, "beyond the bound")]


if __name__ == "__main__":
    write("Weights", "weights", cases(), f"p = {P}, 0.7 for Mixout; float32, one thread. Ratios under 1 are faster.")
