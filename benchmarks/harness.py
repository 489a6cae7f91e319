"""Time rivals side by side: every round runs each of them once, so that a drifting machine drifts for all."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from dropkit.core.files import write_atomically
from dropkit.study.provenance import machine

RESULTS = Path(__file__).resolve().parent / "results"
Rivals = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Bar:
    """A ratio of two rivals' times that is to stay at or under a bound."""

    rival: str
    against: str
    bound: float


@dataclass(frozen=True)
class Case:
    """Seconds a call of each rival, a row a round, and the bars that the case is held to."""

    name: str
    threads: int
    rivals: tuple[str, ...]
    seconds: np.ndarray
    bars: tuple[Bar, ...]

    def ratio(self, rival: str, against: str) -> tuple[float, float, float]:
        """Return p20, p50 and p80, over rounds, of one rival's time divided by another's."""
        column = self.rivals.index
        return spread(self.seconds[:, column(rival)] / self.seconds[:, column(against)])

    def microseconds(self, rival: str) -> tuple[float, float, float]:
        """Return a rival's time a call at p20, p50 and p80."""
        return spread(self.seconds[:, self.rivals.index(rival)] * 1e6)


def compare(name: str, rivals: Rivals, bars: Sequence[Bar] = (), *, threads: int = 1, seconds: float = 2.0,
            least_rounds: int = 15) -> Case:
    """Time ``rivals`` in turn.

    Args:
        name: what is timed, with shape and type.
        rivals: name -> call; the first is what the table's ratios are taken against.
        bars: ratios to hold, each the median over rounds.
        threads: PyTorch's threads during the timing.
        seconds: about how long to go on.
        least_rounds: go on until there are as many rounds at least.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        calls = {rival: _calls_a_round(call) for rival, call in rivals.items()}
        rows: list[list[float]] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(rows) < least_rounds:
            order = list(rivals) if len(rows) % 2 else list(rivals)[::-1]  # nobody always follows the same rival
            took = {rival: _time(rivals[rival], calls[rival]) for rival in order}
            rows.append([took[rival] for rival in rivals])
    finally:
        torch.set_num_threads(before)
    return Case(name, threads, tuple(rivals), np.array(rows), tuple(bars))


def write(title: str, file: str, cases: Sequence[Case], note: str = "") -> None:
    """Print the tables and write them as Markdown and JSON to ``benchmarks/results``."""
    facts = {**machine(), "python": platform.python_version(), "torch": torch.__version__,
             "dropkit": metadata.version("dropkit")}
    text = "\n".join([f"# {title}", "", note, "", *_bars(cases), *_times(cases),
                      ", ".join(f"{key}: {value}" for key, value in facts.items()), ""])
    print(text)
    RESULTS.mkdir(exist_ok=True)
    write_atomically(RESULTS / f"{file}.md", text)
    found = {"title": title, "facts": facts, "cases": [_record(case) for case in cases]}
    write_atomically(RESULTS / f"{file}.json", json.dumps(found, indent=1) + "\n")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_to_time() -> list[int]:
    """Return one thread, and all of them where there are more."""
    return sorted({1, cores()})


def spread(values: np.ndarray) -> tuple[float, float, float]:
    """Return the 20th, 50th and 80th percentile."""
    low, middle, high = np.percentile(values, (20, 50, 80))
    return float(low), float(middle), float(high)


def _bars(cases: Sequence[Case]) -> list[str]:
    held = [(case, bar) for case in cases for bar in case.bars]
    if not held:
        return []
    lines = ["| case | threads | ratio of times | p20, p50, p80 | bar | met |", "| --- | --- | --- | --- | --- | --- |"]
    for case, bar in held:
        found = case.ratio(bar.rival, bar.against)
        met = "yes" if found[1] <= bar.bound else "**no**"
        lines.append(f"| {case.name} | {case.threads} | {bar.rival} / {bar.against} | {_shown(found)} | "
                     f"<= {bar.bound:.3g} | {met} |")
    return [*lines, ""]


def _times(cases: Sequence[Case]) -> list[str]:
    lines = ["| case | threads | rival | µs: p20, p50, p80 | ratio to the first: p20, p50, p80 |",
             "| --- | --- | --- | --- | --- |"]
    lines += [f"| {case.name} | {case.threads} | {rival} | {_shown(case.microseconds(rival))} | "
              f"{_shown(case.ratio(rival, case.rivals[0]))} |" for case in cases for rival in case.rivals]
    return [*lines, ""]


def _record(case: Case) -> dict[str, object]:
    return {"case": case.name, "threads": case.threads, "rounds": len(case.seconds),
            "microseconds": {rival: case.microseconds(rival) for rival in case.rivals},
            "bars": [{"ratio": f"{bar.rival} / {bar.against}", "found": case.ratio(bar.rival, bar.against), "bound": bar.bound}
                     for bar in case.bars]}


def _calls_a_round(call: Callable[[], object], aim: float = 2e-3) -> int:
    call()
    once = min(_time(call, 1) for _ in range(3))
    return max(1, int(aim / max(once, 1e-7)))


def _time(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def _shown(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
