"""Mean and variance in one pass: its time against one forward's, and its results against those of sampling."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

import dropkit as dk
from harness import Bar, Case, compare, threads_to_time, write

SAMPLES = 100_000
RATES = ((0.0, 0.5), (0.2, 0.5), (0.0, 0.5, 0.5), (0.2, 0.5, 0.5), (0.1, 0.1, 0.1), (0.0, 0.5, 0.0))


def timed(name: str, model: nn.Module, x: Tensor, threads: int) -> Case:
    """Time one pass of moments, in which all behind the first dropout is done twice, and one with ten backward passes more."""
    model.eval()

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    bars = [Bar("moment_predict", "forward", 3.0)] * (threads == 1)
    return compare(name, {"forward": forward, "moment_predict": lambda: dk.moment_predict(model, x),
                          "linearised": lambda: dk.moment_predict(model, x, linearised=True)}, bars, threads=threads)


def dense(width: int) -> nn.Module:
    """Build a network of fully connected layers with dropout before each."""
    return nn.Sequential(dk.nn.Dropout(0.1), nn.Linear(width, width), nn.ReLU(), dk.nn.Dropout(0.5), nn.Linear(width, width),
                         nn.ReLU(), dk.nn.Dropout(0.5), nn.Linear(width, 10))


def convolutions() -> nn.Module:
    """Build a small convolutional network with dropout from its second convolution on."""
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), dk.nn.Dropout2d(0.1),
                         nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(2), dk.nn.Dropout2d(0.1),
                         nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def cases() -> list[Case]:
    """Run every case."""
    return [case for threads in threads_to_time() for case in (
        timed("dense, width 256, batch 256", dense(256), torch.randn(256, 256), threads),
        timed("dense, width 1024, batch 256", dense(1024), torch.randn(256, 1024), threads),
        timed("convolutions, (32, 3, 32, 32)", convolutions(), torch.randn(32, 3, 32, 32), threads))]


def trained(rates: tuple[float, ...]) -> tuple[nn.Module, Tensor]:
    """Train a network of 64 ReLU units a layer on digits, and return it with 8 digits that it has not seen."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    torch.manual_seed(0)
    hidden = [layer for rate in rates[:-1] for layer in (dk.nn.Dropout(rate), nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(*hidden, dk.nn.Dropout(rates[-1]), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:1500]), y[:1500]).backward()
        optimizer.step()
    return model, x[1500:1508]


def errors(rates: tuple[float, ...]) -> str:
    """A row of a table: the error of the mean, and those of the variances of the three ways."""
    model, x = trained(rates)
    with torch.no_grad(), dk.keyed(0):
        samples = torch.cat([model.train()(x.expand(1000, -1, -1)) for _ in range(SAMPLES // 1000)]).double()
    mean, variance = samples.mean(0), samples.var(0)
    ways = [dk.moment_predict(model, x, **way) for way in ({}, {"linearised": True}, {"covariance": True})]
    off = float((ways[0].mean - mean).norm() / mean.norm())
    spread = [f"{float((way.variance / variance - 1).square().mean().sqrt()):.1%}" for way in ways]
    return f"| {', '.join(map(str, rates))} | {off:.1%} | {' | '.join(spread)} |"


def accuracy() -> str:
    """The table of `errors`."""
    return "\n".join([f"Root mean squares of relative errors, against {SAMPLES:,} samples, on digits:", "",
                      "| dropout before each layer | mean | variance | linearised | covariance |",
                      "| --- | --- | --- | --- | --- |", *map(errors, RATES)])


if __name__ == "__main__":
    found = accuracy()
    write("Moments in one pass", "moments", cases(), f"float32, no gradients. Ratios under 1 are faster.\n\n{found}")
