"""Time rivals side by side: every round runs each of them once, so that a drifting machine drifts for all."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))  # benchmarks run from a checkout
from dropkit.core.files import write_atomically
from dropkit.study.provenance import machine

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Timing:
    """One rival in one case: microseconds a call, and the ratio to the case's reference, each at p20, p50, p80 over rounds."""

    case: str
    rival: str
    threads: int
    microseconds: tuple[float, float, float]
    ratio: tuple[float, float, float]


def compare(case: str, rivals: dict[str, Callable[[], object]], *, threads: int = 1, seconds: float = 1.5,
            least_rounds: int = 15) -> list[Timing]:
    """Time ``rivals`` in turn for about ``seconds``; ratios are taken round by round against the first of them.

    Args:
        case: what is timed, with shape and type.
        rivals: name -> call. The first is the reference of the ratios.
        threads: PyTorch's threads during the timing.
        seconds: how long to go on.
        least_rounds: go on until there are as many rounds at least.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inner = {name: _calls_a_round(call) for name, call in rivals.items()}
        rows = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(rows) < least_rounds:
            rows.append([_time(call, inner[name]) for name, call in rivals.items()])
    finally:
        torch.set_num_threads(before)
    times = np.array(rows) * 1e6
    ratios = times / times[:, :1]
    return [Timing(case, name, threads, _spread(times[:, i]), _spread(ratios[:, i])) for i, name in enumerate(rivals)]


def write(title: str, name: str, timings: Iterable[Timing], note: str = "") -> None:
    """Print the table and write it as Markdown and JSON to ``benchmarks/results``."""
    rows = list(timings)
    facts = {**machine(), "python": platform.python_version(), "torch": torch.__version__,
             "dropkit": metadata.version("dropkit")}
    lines = [f"# {title}", "", note, "", "| case | threads | rival | µs (p20, p50, p80) | ratio (p20, p50, p80) |",
             "| --- | --- | --- | --- | --- |"]
    lines += [f"| {row.case} | {row.threads} | {row.rival} | {_shown(row.microseconds)} | {_shown(row.ratio)} |"
              for row in rows]
    lines += ["", ", ".join(f"{key} {value}" for key, value in facts.items()), ""]
    text = "\n".join(lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / f"{name}.md", text)
    found = {"title": title, "facts": facts, "rows": [asdict(row) for row in rows]}
    write_atomically(RESULTS / f"{name}.json", json.dumps(found, indent=1) + "\n")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _calls_a_round(call: Callable[[], object], aim: float = 2e-3) -> int:
    call()
    once = min(_time(call, 1) for _ in range(3))
    return max(1, int(aim / max(once, 1e-7)))


def _time(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (20, 50, 80))
    return float(low), float(middle), float(high)


def _shown(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
