"""Monte-Carlo dropout on the UCI sets of Gal and Ghahramani (2016), beside the numbers they published.

The splits, rates and precisions are the published ones, 50 hidden units, batches of 32, 400 epochs and 10,000 passes. All
splits of a set are trained at once as one batched model. The data is not part of the project: pass the folder that holds the
sets.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import torch

import dropkit as dk
from dropkit.core.files import write_atomically
from dropkit.study.provenance import machine
from harness import RESULTS
from uci_nets import Nets, Splits, read, standardised, train

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "uci"
EPOCHS, PASSES, HIDDEN = 400, 10_000, 50


@dataclass(frozen=True)
class Published:
    """One set: rate, precision, the prior's length scale, and what was published: mean and standard error over 20 splits."""

    p: float
    tau: float
    length_scale: float
    rmse: tuple[float, float]
    log_likelihood: tuple[float, float]


SETS = {
    "concrete": Published(0.01, 0.0557319, 1e-2, (5.23, 0.12), (-3.04, 0.02)),
    "energy": Published(0.05, 0.427115, 1e-2, (1.66, 0.04), (-1.99, 0.02)),
    "wine-quality-red": Published(0.05, 2.958337, 1e-2, (0.62, 0.01), (-0.93, 0.01)),
    "yacht": Published(0.01, 0.541870, 1e-1, (1.11, 0.09), (-1.55, 0.03)),
}


@dataclass(frozen=True)
class Found:
    """What one set gave: root mean squared error and test log-likelihood of every split, and seconds."""

    rmse: list[float]
    log_likelihood: list[float]
    training: float
    prediction: float


def run(name: str, folder: Path, epochs: int, passes: int, seed: int) -> Found:
    """Train and predict all splits of a set."""
    known, data = SETS[name], standardised(read(folder / name))
    torch.manual_seed(seed)
    nets = Nets(len(data.x), data.x.shape[2], HIDDEN, known.p)
    penalty = known.length_scale ** 2 * (1 - known.p) / (2 * data.x.shape[1] * known.tau)
    begin = time.perf_counter()
    train(nets, data.x, data.y, epochs=epochs, penalty=penalty, seed=seed)
    trained = time.perf_counter()
    rmse, log_likelihood = predict(nets, data, known.tau, passes, seed)
    return Found(rmse, log_likelihood, trained - begin, time.perf_counter() - trained)


def predict(nets: Nets, data: Splits, tau: float, passes: int, seed: int) -> tuple[list[float], list[float]]:
    """Root mean squared error and log-likelihood of each split, by `dk.mc_predict` on the batched model."""
    drawn = dk.mc_predict(nets, data.x_test, passes, seed=seed, task="regression", samples=True).samples
    samples = drawn[..., 0] * data.scale + data.mean
    errors = (samples.mean(0) - data.y_test).square().mean(1).sqrt()
    return errors.tolist(), [dk.scores.test_log_likelihood(samples[:, split], data.y_test[split], tau)
                             for split in range(len(data.y_test))]


def compared(ours: list[float], published: tuple[float, float]) -> tuple[float, float, float]:
    """Return mean, standard error, and the difference from the published mean in standard errors of the difference."""
    values = torch.tensor(ours, dtype=torch.float64)
    mean, error = float(values.mean()), float(values.std() / len(values) ** 0.5)
    return mean, error, (mean - published[0]) / (error ** 2 + published[1] ** 2) ** 0.5


def table(found: dict[str, Found]) -> str:
    """The results beside the published ones."""
    lines = ["| set | score | published | found | difference in standard errors | training, prediction |", "| --- " * 6 + "|"]
    for name, result in found.items():
        took = f"{result.training:.0f} s, {result.prediction:.0f} s"
        for score, title in (("rmse", "RMSE"), ("log_likelihood", "log-likelihood")):
            published = getattr(SETS[name], score)
            mean, error, apart = compared(getattr(result, score), published)
            lines.append(f"| {name} | {title} | {published[0]:.2f} ± {published[1]:.2f} | {mean:.3f} ± {error:.3f} | "
                         f"{apart:+.2f} | {took} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run the sets asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder that holds the sets")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--passes", type=int, default=PASSES)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.sets) - set(SETS)
    if unknown:
        parser.error(f"the sets are {', '.join(SETS)}; got {', '.join(sorted(unknown))}")
    if not chosen.data.is_dir():
        print(f"bench_uci: left out: there is no data in {chosen.data}; pass --data FOLDER", file=sys.stderr)
        return 2
    found = {name: run(name, chosen.data, chosen.epochs, chosen.passes, chosen.seed) for name in chosen.sets or SETS}
    facts = {**machine(), "python": platform.python_version(), "torch": torch.__version__,
             "dropkit": metadata.version("dropkit"), "threads": torch.get_num_threads(), "epochs": chosen.epochs,
             "passes": chosen.passes, "seed": chosen.seed}
    text = "\n".join(["# UCI regression with Monte-Carlo dropout", "",
                      "Mean ± standard error over the 20 published splits.", "", table(found), "",
                      ", ".join(f"{key}: {value}" for key, value in facts.items()), ""])
    print(text)
    if set(found) == set(SETS):
        write_atomically(RESULTS / "uci.md", text)
        write_atomically(RESULTS / "uci.json", json.dumps({"facts": facts, "sets": {k: asdict(v) for k, v in found.items()}},
                                                          indent=1) + "\n")
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code:
        sys.exit(code)
