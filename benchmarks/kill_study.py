"""Kill -9 a study again and again, resume it each time, and compare its numbers with those of a study left in peace.

``python benchmarks/kill_study.py --kills 100`` kills whole process groups at random moments that a seed fixes, a hundred
times in all. A study that finishes in between is compared to the bit and the next one begun; the last one is let finish.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXPERIMENT = """
import dropkit as dk
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3))

experiment = dk.Experiment(data="iris", model=build, epochs={epochs}, batch_size=16)
"""


def command(file: Path, out: Path) -> list[str]:
    """3 arms x 2 seeds, with a checkpoint every 0.2 s."""
    return [sys.executable, "-m", "dropkit", "study", f"{file}:experiment", "--out", str(out), "--seeds", "2", "--jobs", "2",
            "--checkpoint-every", "0.2", "--no-fused"]


def numbers(out: Path) -> dict[str, Any]:
    """Everything in a result that has to repeat."""
    kept: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    del kept["provenance"]
    return kept


def trains(out: Path, since: float) -> bool:
    """Tell whether a run has trained for an epoch or left a checkpoint since then; a killed study leaves older files behind."""
    try:
        found = [file.stat() for file in (*(out / "progress").glob("*.jsonl"), *(out / "checkpoints").glob("*.pt"))]
        return any(file.st_mtime > since and file.st_size > 0 for file in found)
    except FileNotFoundError:  # the run has just ended
        return True


def attempt(file: Path, out: Path, patience: float) -> tuple[bool, bool]:
    """Run or resume the study, and kill it.

    Args:
        file: holds the experiment.
        out: the study's folder.
        patience: seconds from the moment when a run is being trained to the kill; negative: from the program's start.

    Returns:
        Whether it was killed, and whether a run was being trained then.
    """
    started = time.time()
    process = subprocess.Popen(command(file, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    begun = started if patience < 0 else None
    while process.poll() is None:
        if begun is None and trains(out, started):
            begun = time.time()
        if begun is not None and time.time() - begun > abs(patience):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True, trains(out, started)
        time.sleep(0.01)
    if process.returncode != 0:
        raise SystemExit(f"the study ended with exit code {process.returncode} of its own accord; its folder is {out}")
    return False, False


def moments(seed: int, longest: float) -> Any:
    """Yield patience: nine in ten while runs are trained, the tenth while the program starts."""
    draw = random.Random(seed)
    while True:
        yield -draw.uniform(0.5, 5) if draw.random() < 0.1 else draw.uniform(0, longest)


def hammer(file: Path, folder: Path, kills: int, seed: int, longest: float, whole: dict[str, Any]) -> dict[str, int]:
    """Kill and resume until ``kills`` are done and the last study has finished; compare each finished one with ``whole``."""
    count = {"kills": 0, "kills in training": 0, "studies finished": 0, "studies that differ": 0}
    patience = moments(seed, longest)
    finished = False
    while not (finished and count["kills"] >= kills):
        out = folder / str(count["studies finished"])
        killed, training = attempt(file, out, next(patience) if count["kills"] < kills else 1e9)
        finished = not killed
        count["kills"] += killed
        count["kills in training"] += training
        if finished:
            count["studies finished"] += 1
            count["studies that differ"] += numbers(out) != whole
        print(count, flush=True)
    return count


def main(arguments: list[str] | None = None) -> int:
    """Run both and compare; exit code 1 if a number differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=400, help="length of a run")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of training between two kills, at most")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "exp.py"
        file.write_text(EXPERIMENT.format(epochs=chosen.epochs), encoding="utf-8")
        begun = time.monotonic()
        attempt(file, folder / "whole", 1e9)
        print(f"uninterrupted: {time.monotonic() - begun:.0f} s", flush=True)
        count = hammer(file, folder, chosen.kills, chosen.seed, chosen.longest, numbers(folder / "whole"))
    print(json.dumps(count))
    return 1 if count["studies that differ"] or count["kills"] < chosen.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
