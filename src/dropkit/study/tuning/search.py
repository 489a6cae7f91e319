"""The search for good rates: Optuna's ask and tell, kept in a SQLite file so that it can go on after any end."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from dropkit.core.errors import InputError, phrase
from dropkit.core.streams import stream_number
from dropkit.study.tuning.progress import words
from dropkit.study.tuning.record import FINISHED, PRUNED, Group, Trial

NAME = "tuning.sqlite"
SWEEP = (0.1, 0.2, 0.35, 0.5, 0.65)
"""Rates tried for all groups alike, besides none, reduced and intended, before Optuna chooses."""
_DIGITS = 4  # rates are rounded to this many, so that what is reported is what was trained


@dataclass
class Asked:
    """A trial in hand: its number among the trials, its rates, and the metric of the seeds finished so far."""

    index: int
    rates: dict[str, float]
    handle: optuna.trial.Trial
    values: dict[int, float] = field(default_factory=dict)
    reported: int = 0
    diverged: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Space:
    """What is searched: groups, bounds of their rates, tuning seeds, direction, the sampler's seed, the level of pruning."""

    groups: list[Group]
    low: float
    high: float
    seeds: list[int]
    higher_is_better: bool
    seed: int
    level: float

    def sweep(self) -> list[dict[str, float]]:
        """Return the settings tried first: none, half the intended rates, the intended ones, then common rates."""
        factors = [{group.label: group.intended * factor for group in self.groups} for factor in (0.0, 0.5, 1.0)]
        common = [{group.label: rate for group in self.groups} for rate in SWEEP]
        found = [{label: round(min(max(rate, self.low), self.high), _DIGITS) for label, rate in setting.items()}
                 for setting in (*factors, *common)]
        return [setting for index, setting in enumerate(found) if setting not in found[:index]]


class Search:
    """Trials of a tuning, in a file.

    Each question to the sampler is seeded by the trial's index alone, so a search that was stopped and goes on asks what it
    would have asked, as long as one trial at a time is in hand.

    Args:
        folder: an existing folder for the file.
        space: what is searched.
        claim: text that has to be the same when the search goes on: the experiment's hash.

    Raises:
        InputError: the file holds another search, or is no such file.
    """

    def __init__(self, folder: Path, space: Space, claim: str) -> None:
        self.space = space
        self._study = _open(folder / NAME, space)
        settings = json.dumps([claim, [group.sites for group in space.groups], space.low, space.high, space.seeds, space.seed,
                               space.level])
        held = self._study.user_attrs.get("settings")
        if held is not None and held != settings:
            raise InputError("a tuning folder holds one tuning", got=phrase(f"{folder}, tuned with other data, model, sites, "
                             "bounds, seeds or settings"), fix="Choose another folder with --out, or delete this one")
        self._study.set_user_attr("settings", settings)
        self._again = self._left_over()
        self._next = 1 + max((_index(trial) for trial in self._study.trials), default=-1)

    def ask(self, trials: int) -> Asked | None:
        """Return the next trial, or None once ``trials`` have been asked; what was left unfinished comes first."""
        if self._again:
            index, rates = self._again.pop(0)
            return self._ask(index, rates)
        if self._next >= trials:
            return None
        index, sweep = self._next, self.space.sweep()
        self._next += 1
        return self._ask(index, sweep[index] if index < len(sweep) else None)

    def note(self, asked: Asked, seed: int, value: float) -> bool:
        """Keep the metric of one seed; return whether the trial may stop here, being worse than the best one.

        Seeds are weighed in their own order, so that the decision does not depend on which worker is faster.
        """
        asked.values[seed] = value
        seeds = self.space.seeds
        while asked.reported < len(seeds) and seeds[asked.reported] in asked.values:
            step = seeds[asked.reported]
            asked.handle.report(asked.values[step], step)
            asked.reported += 1
            if asked.reported < len(seeds) and self._is_hopeless(asked):
                return True
        return False

    def finish(self, asked: Asked) -> Trial:
        """Tell Optuna the trial's value and return its record."""
        seen = self.space.seeds[:asked.reported]
        pruned = len(seen) < len(self.space.seeds)
        value = self._estimate(asked) if pruned else math.fsum(asked.values[seed] for seed in seen) / len(seen)
        asked.handle.set_user_attr("found", {"status": PRUNED if pruned else FINISHED, "diverged": asked.diverged,
                                             "seconds": round(asked.seconds, 3)})
        # Optuna's advice for this pruner: a pruned trial is told with its estimated value, which samplers learn from.
        return _record(self._study.tell(asked.handle, value), self.space)

    def fail(self, asked: Asked, error: str) -> None:
        """Keep that a trial raised; the next call tries its rates again."""
        asked.handle.set_user_attr("error", error[:500])
        self._study.tell(asked.handle, state=TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """Return the finished and pruned trials, by index."""
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted((_record(trial, self.space) for trial in done), key=lambda trial: trial.index)

    def failed(self) -> list[str]:
        """Return what trials that raised, and have not been finished since, said."""
        return [str(trial.user_attrs["error"]) for trial in self._unfinished().values() if "error" in trial.user_attrs]

    @property
    def study(self) -> optuna.Study:
        """Optuna's study, for its importances."""
        return self._study

    def _ask(self, index: int, rates: Mapping[str, float] | None) -> Asked:
        space = self.space
        self._study.sampler = optuna.samplers.TPESampler(seed=stream_number(f"tune:{space.seed}:{index}") % 2**32)
        if rates is not None:
            self._study.enqueue_trial(dict(rates))
        handle = self._study.ask({group.label: FloatDistribution(space.low, space.high) for group in space.groups})
        found = {label: round(float(rate), _DIGITS) for label, rate in handle.params.items()}
        handle.set_user_attr("asked", {"index": index, "rates": found})
        return Asked(index, found, handle)

    def _left_over(self) -> list[tuple[int, dict[str, float]]]:
        """Fail what an ended process left running, and list the trials that never finished, by index."""
        trials = self._study.get_trials(deepcopy=False)
        for _ in [trial for trial in trials if trial.state == TrialState.WAITING]:
            self._study.tell(self._study.ask(), state=TrialState.FAIL)  # asking takes the trial that waits
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
        return sorted((index, _rates(trial)) for index, trial in self._unfinished().items())

    def _unfinished(self) -> dict[int, FrozenTrial]:
        """Return for each index without a finished trial the last one that failed."""
        found = {_index(trial): trial for trial in self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))}
        done = {_index(trial) for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
        return {index: trial for index, trial in found.items() if index >= 0 and index not in done}

    def _is_hopeless(self, asked: Asked) -> bool:
        return asked.handle.should_prune() and self._is_worse(self._estimate(asked))

    def _estimate(self, asked: Asked) -> float:
        best = self._study.best_trial
        shared = self.space.seeds[:asked.reported]
        return float(best.value or 0.0) + math.fsum(
            asked.values[seed] - best.intermediate_values[seed] for seed in shared) / len(shared)

    def _is_worse(self, value: float) -> bool:
        best = self._study.best_value
        return value < best if self.space.higher_is_better else value > best


def default_level(seeds: int) -> float:
    """Return the significance level of pruning that suits a number of tuning seeds.

    With n pairs that all speak against a trial, the one-sided Wilcoxon test gives p = 2^-n: under 0.1 from four seeds on. With
    fewer than five tuning seeds, two bad ones (p = 0.25) have to do, or nothing would ever be pruned.
    """
    return 0.1 if seeds >= 5 else 0.3


def progress_of(folder: Path) -> tuple[int, tuple[str, float] | None]:
    """Return how many trials are finished, and the best one's rates in words and its value, without locking the search.

    Raises:
        InputError: the folder holds no search.
    """
    with _quiet(), _readable(folder / NAME):
        storage = _storage(folder / NAME)
        if not storage.get_all_studies():  # it ended after its tables were made and before it put itself into them
            return 0, None
        study = optuna.load_study(study_name="rates", storage=storage)
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = study.best_trial if done else None
    return len(done), None if best is None else (words(_rates(best)), float(best.value or 0.0))


def _open(file: Path, space: Space) -> optuna.Study:
    with _quiet(), _readable(file):
        return optuna.create_study(
            storage=_storage(file), study_name="rates", load_if_exists=True,
            direction="maximize" if space.higher_is_better else "minimize",
            pruner=optuna.pruners.WilcoxonPruner(p_threshold=space.level, n_startup_steps=2))


def _storage(file: Path) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(f"sqlite:///{file.absolute()}")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, RuntimeError, KeyError) as error:
        raise InputError("the tuning's file is a SQLite file that dropkit wrote", got=phrase(f"{file}: {error}"),
                         fix="Delete the folder, or choose another with --out") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Let pass that Optuna calls its Wilcoxon pruner experimental: it warns at every construction."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield


def _index(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("asked", {"index": -1})["index"])


def _rates(trial: FrozenTrial) -> dict[str, float]:
    return dict(trial.user_attrs["asked"]["rates"])


def _record(trial: FrozenTrial, space: Space) -> Trial:
    index, value = _index(trial), float(trial.value if trial.value is not None else math.nan)
    return Trial(index=index, rates=_rates(trial), values=dict(sorted(trial.intermediate_values.items())), value=value,
                 origin="sweep" if index < len(space.sweep()) else "sampler", **trial.user_attrs["found"])
