"""A whole study beside the loop that a user would write, and one of Fashion-MNIST within its limits.

The first part takes a few minutes: every round trains three arms with eight seeds on the digits, in turn by the plain loop, by
`dk.study` as it comes and by `dk.study` without fusing, all on the machine's first two cores. ``--epochs 4`` is a quick look.

``--fashion FOLDER`` studies a 2 x 512 perceptron on 10,000 of Fashion-MNIST's images instead, the folder holding its IDX files.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import dropkit as dk
from dropkit.study.data import load
from dropkit.study.networks import mlp
from dropkit.study.partition import Partition
from dropkit.study.prepare import prepare
from harness import Bar, Case, cores, write

RATES, SEEDS, ARMS, CORES = (0.0, 0.25, 0.5), 8, 3, 2


def plain_run(part: Partition, p: float, seed: int, epochs: int) -> float:
    """Train and score one run as a user would, with the losses and scores that a study takes in every epoch."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(p), nn.Linear(256, 256), nn.ReLU(),
                          nn.Dropout(p), nn.Linear(256, 10))
    train = TensorDataset(part.x_train, part.y_train)
    shuffled, ordered = DataLoader(train, 64, shuffle=True), DataLoader(train, 64)
    held_out = DataLoader(TensorDataset(part.x_val, part.y_val), 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        loss_sum, right = 0.0, 0
        for x, y in shuffled:
            optimizer.zero_grad()
            out = model(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(y)
            right += int((out.argmax(1) == y).sum())
        for loader in (ordered, held_out):
            score(model, loader)
    return score(model, DataLoader(TensorDataset(part.x_test, part.y_test), 64))


@torch.no_grad()
def score(model: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]) -> float:
    """Sum losses and return the accuracy in evaluation mode."""
    model.eval()
    loss, right, n = 0.0, 0, 0
    for x, y in loader:
        out = model(x)
        loss += F.cross_entropy(out, y, reduction="sum").item()
        right += int((out.argmax(1) == y).sum())
        n += len(y)
    return right / n


def plain_study(epochs: int) -> None:
    """Three rates times eight seeds, one run after the other."""
    ready = prepare(dk.Experiment(data="digits", epochs=epochs))
    for seed in range(SEEDS):
        part = ready.part(seed)
        for p in RATES:
            plain_run(part, p, seed, epochs)


def study(epochs: int, fused: bool | str) -> None:
    """Make the same study by `dk.study`, start of the workers, choice of the way and verdict included."""
    with tempfile.TemporaryDirectory() as folder:
        dk.study(dk.Experiment(data="digits", epochs=epochs), seeds=SEEDS, out=folder, jobs=CORES, fused=fused, progress=False)


def digits(epochs: int, rounds: int) -> Case:
    """Time whole studies in turn, each round once; harness.compare would begin with calls that count for nothing."""
    rivals: dict[str, Callable[[], None]] = {
        "plain loop": lambda: plain_study(epochs), "dropkit": lambda: study(epochs, "auto"),
        "dropkit, not fused": lambda: study(epochs, False)}
    rows = []
    for round_ in range(rounds):
        took = {}
        for name in (list(rivals) if round_ % 2 == 0 else list(rivals)[::-1]):
            begin = time.perf_counter()
            rivals[name]()
            took[name] = time.perf_counter() - begin
        rows.append([took[name] for name in rivals])
    held = (Bar("dropkit", "plain loop", 0.25),) if epochs >= 40 else ()
    return Case(f"digits, {ARMS} arms x {SEEDS} seeds x {epochs} epochs", CORES, tuple(rivals), np.array(rows), held)


def fashion(folder: Path) -> None:
    """Study Fashion-MNIST and say how long it took and how large the report is."""
    data = load(folder)
    rows = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(0))[:10_000]
    small = {"train": (data.x_train[rows], data.y_train[rows]), "test": (data.x_test, data.y_test)}
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        found = dk.study(dk.Experiment(data=small, model=wide, epochs=5, name="Fashion-MNIST"), seeds=5, out=out, jobs=CORES)
        page = found.report()
        took, size = time.perf_counter() - begin, page.stat().st_size
    print(found.verdict.sentence, *found.provenance.notes, sep="\n")
    print(f"{took:.0f} s (at most 600), report {size / 1e6:.1f} MB (at most 10)")
    if took > 600 or size > 10e6:
        raise SystemExit(1)


def wide() -> nn.Module:
    """Two hidden layers of 512 units."""
    return mlp([1, 28, 28], 10, width=512)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--fashion", type=Path)
    arguments, _ = parser.parse_known_args()
    if hasattr(os, "sched_setaffinity") and cores() > CORES:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if arguments.fashion is not None:
        fashion(arguments.fashion)
    else:
        write("Study", "study", [digits(arguments.epochs, arguments.rounds)],
              "Whole studies, wall clock: the plain loop runs in this process; dropkit's time holds the start of two workers, "
              "the trial of the fused way, statistics and the result file.")
