"""Progress without a terminal: a line on standard error for every finished run."""

from __future__ import annotations

import sys

from dropkit.study.runner import Progress


class Lines:
    """An observer that prints one line for each run as it finishes."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int]] | None = None
        self._notes = 0

    def update(self, progress: Progress) -> None:
        """Print what has finished since the last call."""
        total = len(progress.arms) * len(progress.seeds)
        if self._told is None:
            self._told = set(progress.finished)
            if progress.kept:
                print(f"{progress.kept} of {total} runs were finished before", file=sys.stderr, flush=True)
        for key in [key for key in progress.finished if key not in self._told]:
            self._told.add(key)
            run = progress.finished[key]
            note = "" if run.status == "finished" else f"  {run.status}"
            print(f"[{len(self._told)}/{total}] {run.arm}, seed {run.seed}: test {run.test_metric:.4g}{note}",
                  file=sys.stderr, flush=True)
        for note in progress.notes[self._notes:]:
            print(f"note: {note}", file=sys.stderr, flush=True)
        self._notes = len(progress.notes)


class Silent:
    """An observer that says nothing."""

    def update(self, progress: Progress) -> None:
        """Do nothing."""
