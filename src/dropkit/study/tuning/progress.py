"""A tuning's progress: a line on standard error for every trial."""

from __future__ import annotations

import sys

from dropkit.study.tuning.record import PRUNED, Trial, Tuning
from dropkit.study.wording import count


class TrialLines:
    """A listener that prints one line for each trial as it ends."""

    def __init__(self) -> None:
        self.done, self.total, self._metric, self._seeds = 0, 0, "", 0

    def begin(self, tuning: Tuning, trials: int) -> None:
        """Print what is searched and what was finished before."""
        self.done, self.total, self._metric, self._seeds = len(tuning.trials), trials, tuning.metric, len(tuning.seeds)
        rates = f"{len(tuning.groups)} rate{'s' if len(tuning.groups) > 1 else ''}"
        was = "was" if self.done == 1 else "were"
        before = f"; {count(self.done, 'trial')} {was} finished before" if self.done else ""
        _say(f"Tuning {rates} in [{tuning.low:g}, {tuning.high:g}] on validation {tuning.metric}, "
             f"{count(trials, 'trial')} of {count(self._seeds, 'seed')}{before}")

    def trial(self, trial: Trial | str, best: Trial | None) -> None:
        """Print the trial, and which is the best so far."""
        if isinstance(trial, str):
            _say(f"[{self.done}/{self.total}] a trial failed: {trial}")
            return
        self.done += 1
        note = f", pruned after {len(trial.values)} of {count(self._seeds, 'seed')}" if trial.status == PRUNED else ""
        note += f", {trial.diverged} diverged" if trial.diverged else ""
        top = "" if best is None else (" (the best)" if best.index == trial.index else f" (best {best.value:.4g})")
        _say(f"[{self.done}/{self.total}] {words(trial.rates)}: {self._metric} {trial.value:.4g}{note}{top}")


class NoLines:
    """A listener that says nothing."""

    def begin(self, tuning: Tuning, trials: int) -> None:
        """Do nothing."""

    def trial(self, trial: Trial | str, best: Trial | None) -> None:
        """Do nothing."""


def words(rates: dict[str, float]) -> str:
    """Return rates in a few words.

    Example:
        >>> words({"encoder.*.drop": 0.1, "head": 0.25})
        'encoder.*.drop=0.1, head=0.25'
    """
    return ", ".join(f"{label}={rate:.3g}" for label, rate in rates.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
