"""Dropout's forward pass against PyTorch's, with cloning the data as the limit; p = 0.1, float32."""

from __future__ import annotations

import torch
from torch.nn import functional as F

import dropkit as dk
from harness import compare, cores, write


def main() -> None:
    """Time sizes from 1 to 2^20."""
    rows = []
    for size in (1, 256, 2**14, 2**20):
        x = torch.rand(size)
        for threads in sorted({1, cores()}):
            rows += compare(f"forward, {size} elements", {
                "F.dropout": lambda x=x: F.dropout(x, 0.1),
                "dropkit": lambda x=x: dk.functional.dropout(x, 0.1),
                "clone": lambda x=x: x.clone(),
            }, threads=threads)
    write("Dropout, forward", "dropout", rows, "Ratios are times divided by F.dropout's in the same round: under 1 is faster.")


if __name__ == "__main__":
    main()
