"""Mean and variance in one pass, against one forward, and against the passes that would tell them by sampling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import dropkit as dk
from harness import Bar, Case, compare, threads_to_time, write


def timed(name: str, model: nn.Module, x: Tensor, threads: int) -> Case:
    """Time one pass of moments, in which all that follows the first dropout is done twice."""
    model.eval()

    def forward() -> Tensor:
        with torch.no_grad():
            return model(x)

    bars = [Bar("moment_predict", "forward", 3.0)] * (threads == 1)
    return compare(name, {"forward": forward, "moment_predict": lambda: dk.moment_predict(model, x)}, bars, threads=threads)


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


if __name__ == "__main__":
    write("Moments in one pass", "moments", cases(), "float32, no gradients. Ratios under 1 are faster.")
