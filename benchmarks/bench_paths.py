"""The native kernel's instruction sets against each other, each in a process of its own, in turn; p = 0.1, one thread."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from harness import Bar, Case, write

CODE = """
import time, torch, dropkit as dk
torch.set_num_threads(1)
for dtype in (torch.float32, torch.bfloat16):
    x = torch.rand(2**20).to(dtype)
    best = []
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(5):
            dk.functional.dropout(x, 0.1)
        best.append((time.perf_counter() - start) / 5)
    print(sorted(best)[len(best) // 2])
"""
PATHS = ("avx512", "avx2", "neon", "scalar")


def seconds(path: str) -> list[float] | None:
    """Return the median time a call of a path for each type, or None where this machine cannot take it."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False,
                          env={**os.environ, "DROPKIT_KERNEL": path, "OMP_NUM_THREADS": "1"})
    return [float(line) for line in done.stdout.split()] if done.returncode == 0 else None


def cases(rounds: int = 5) -> list[Case]:
    """Time every path that this machine can take, in turn."""
    possible = [path for path in PATHS if seconds(path) is not None]
    rows = np.array([[seconds(path) for path in possible] for _ in range(rounds)])
    bars = (Bar("avx2", "avx512", 2.0),) if {"avx2", "avx512"} <= set(possible) else ()
    return [Case(f"forward, 2^20 {dtype}", 1, tuple(possible), rows[:, :, index], bars)
            for index, dtype in enumerate(("float32", "bfloat16"))]


if __name__ == "__main__":
    write("Instruction sets", "paths", cases(), "p = 0.1, one thread, a process for each path and round.")
