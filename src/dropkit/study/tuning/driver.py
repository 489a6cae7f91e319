"""The tuning itself: prepare, search on validation data, confirm on fresh seeds and untouched test data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
from loky.process_executor import ProcessPoolExecutor

from dropkit.core.errors import InputError
from dropkit.core.rates import check_rate
from dropkit.study.driver import Source, _folder, _name, _seeds, experiment_of, run_study
from dropkit.study.engines.choice import Running
from dropkit.study.fingerprint import fingerprint
from dropkit.study.folder import check_folder, lock_folder
from dropkit.study.interrupts import taken_when_due
from dropkit.study.prepare import Prepared, prepare
from dropkit.study.result import StudyResult
from dropkit.study.runner import Observer
from dropkit.study.tuning.groups import groups_of
from dropkit.study.tuning.hunt import Hunt
from dropkit.study.tuning.importances import importances
from dropkit.study.tuning.record import FINISHED, Trial, Tuning, best_of
from dropkit.study.tuning.result import CONFIRM, TuneResult, save_tuning, tuned_arm
from dropkit.study.tuning.search import NAME, Search, Space, default_level
from dropkit.study.tuning.worker import execute, initialise
from dropkit.study.worker import dump

_ARMS: dict[str, Any] = {"none": 0.0, "intended": {}}  # no globs: as intended, also where that is a rate of 0
TEST_SEED = 0
"""Splits off the test part, where the data brings none, for tuning and confirmation alike."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to tune; see `dropkit.tune`."""

    sites: str = "per-group"
    trials: int = 30
    seeds: int | Sequence[int] = 3
    confirm_seeds: int = 8
    low: float = 0.0
    high: float = 0.8
    seed: int = 0
    prune: float | None = None


class Listener(Protocol):
    """Someone who is told about trials."""

    def begin(self, tuning: Tuning, trials: int) -> None:
        """Take note of what had been finished before; ``tuning.best`` is -1 while there is nothing."""

    def trial(self, trial: Trial | str, best: Trial | None) -> None:
        """Take note of a finished trial, or of what one that failed said, and of the best so far."""


def run_tune(source: Source, options: Options, *, out: str | os.PathLike[str] | None, jobs: int | None,
             listener: Listener, observer: Observer) -> TuneResult:
    """Tune or go on tuning, then confirm; see `dropkit.tune`.

    Args:
        source: the experiment, or how `find_experiment` finds it.
        options: how to tune.
        out: the folder; ``runs/<name>-tune`` by default.
        jobs: worker processes; the machine's cores by default.
        listener: told about trials.
        observer: told about the confirming study's progress.
    """
    seeds = _checked(options)
    experiment = experiment_of(source)
    if experiment.test_seed is None and experiment.train is None:
        # Split by each run's seed, what is test data to one seed would be what another was tuned on.
        experiment = replace(experiment, test_seed=TEST_SEED)
        source = (source[0], {**source[1], "test_seed": TEST_SEED}) if isinstance(source, tuple) else experiment
    running = Running(jobs=jobs, fused=False)  # the choice of the way asks a clock, and a tuning repeats to the bit
    ready = prepare(experiment, _ARMS)
    space = _space(ready, options, seeds)
    folder = _folder(out, f"{_name(experiment)}-tune")
    check_folder(folder, NAME, "tuning")
    with lock_folder(folder, "tuning"), _silence():
        search = Search(folder, space, fingerprint(ready))
        tuning = _search(ready, search, dump(source, _ARMS), folder, options, running.workers, listener)
        save_tuning(tuning, folder)
        return _confirm(source, ready, tuning, options, folder, running, observer)


def _checked(options: Options) -> list[int]:
    for name in ("trials", "confirm_seeds"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is a whole number of at least 1", got=value,
                             fix="30 trials and 8 confirming seeds are good numbers")
    low, high = check_rate(options.low, "low"), check_rate(options.high, "high", below_one=True)
    if low >= high:
        raise InputError("rates are tuned between low and high, low below high", got=(low, high),
                         fix="Pass for example low=0 and high=0.8")
    if isinstance(options.seed, bool) or not isinstance(options.seed, int) or options.seed < 0:
        raise InputError("seed is a whole number of at least 0", got=options.seed, fix="Leave it out for 0")
    if options.prune is not None:
        _check_level(options.prune)
    return _seeds(options.seeds)


def _check_level(prune: Any) -> None:
    if isinstance(prune, bool) or not isinstance(prune, int | float) or not 0 <= prune <= 1:
        raise InputError("prune is a significance level in [0, 1]", got=prune,
                         fix="0.1 is a good one; 0 stops no setting early")


def _space(ready: Prepared, options: Options, seeds: list[int]) -> Space:
    groups = groups_of(ready.arm("intended").sites, options.sites)
    level = default_level(len(seeds)) if options.prune is None else options.prune
    return Space(groups, options.low, options.high, seeds, ready.higher_is_better, options.seed, level)


def _search(ready: Prepared, search: Search, payload: bytes, folder: Path, options: Options, jobs: int,
            listener: Listener) -> Tuning:
    listener.begin(_tuning(ready, search, options), options.trials)
    with _workers(payload, folder, jobs) as executor:
        hunt = Hunt(search, lambda rates, seed: executor.submit(execute, rates, seed), jobs)
        with taken_when_due() as due:
            for found in hunt.go(options.trials, due):
                listener.trial(found, _best(search.trials(), ready.higher_is_better))
    tuning = _tuning(ready, search, options)
    if tuning.best < 0:
        raise InputError("a tuning has a finished trial", got=tuning.failed[:1], fix="Correct what the trials failed at")
    return replace(tuning, importances=importances(search.study, options.seed))


def _tuning(ready: Prepared, search: Search, options: Options) -> Tuning:
    space, trials = search.space, search.trials()
    best = _best(trials, ready.higher_is_better)
    return Tuning(metric=ready.metric_name, higher_is_better=ready.higher_is_better, low=space.low, high=space.high,
                  seeds=space.seeds, groups=space.groups, trials=trials, best=-1 if best is None else best.index,
                  importances=[], failed=search.failed())


def _best(trials: list[Trial], higher_is_better: bool) -> Trial | None:
    return best_of(trials, higher_is_better) if any(trial.status == FINISHED for trial in trials) else None


def _confirm(source: Source, ready: Prepared, tuning: Tuning, options: Options, folder: Path, running: Running,
             observer: Observer) -> TuneResult:
    arms, first = _arms(ready, tuning), max(tuning.seeds) + 1
    study: StudyResult | None = None
    if len(arms) > 1:
        study = run_study(source, arms=arms, seeds=list(range(first, first + options.confirm_seeds)), out=folder / CONFIRM,
                          running=running, observer=observer)
        verdict = replace(study.verdict, next_step=_as_option(study.verdict.next_step))
        said = [*map(_as_option, study.cautions), *_cautions(ready, tuning)]
        study = replace(study, tuning=tuning, verdict=verdict, cautions=said)
        study.save(Path(study.out) / "result.json")
    return TuneResult(tuning, study, tuned_arm(tuning, study), str(folder))


def _arms(ready: Prepared, tuning: Tuning) -> dict[str, Any]:
    """Return the arms none, intended and tuned, the last one being the one judged; of those with equal rates, the first."""
    rates = {"none": {site.name: 0.0 for site in ready.arm("none").sites},
             "intended": {site.name: site.p for site in ready.arm("intended").sites}, "tuned": tuning.site_rates()}
    names = list(rates)
    return {name: rates[name] for at, name in enumerate(names) if rates[name] not in [rates[one] for one in names[:at]]}


def _as_option(advice: str) -> str:
    """Name the option of `dropkit tune` where a study would name its own: --seeds are the tuning seeds here."""
    return advice.replace("(--seeds ", "(--confirm-seeds ")


def _cautions(ready: Prepared, tuning: Tuning) -> list[str]:
    found = []
    if ready.experiment.train is None:
        found.append(f"All seeds are tested on the same {len(ready.part(0).x_test)} examples, which the tuning has not seen; "
                     "the interval covers the luck of weights, batches and training data, not that of the test data.")
    near = [group.label for group in tuning.groups if tuning.chosen.rates[group.label] > tuning.high - 0.02]
    if near:
        found.append(f"The tuned rate of {', '.join(near)} lies at the upper bound of {tuning.high:g}: "
                     "higher ones may be better still; tune again with a larger --high.")
    if tuning.failed:
        found.append(f"{len(tuning.failed)} of the trials failed and count for nothing: {tuning.failed[0]}")
    return found


@contextmanager
def _workers(payload: bytes, folder: Path, jobs: int) -> Iterator[ProcessPoolExecutor]:
    executor = ProcessPoolExecutor(max_workers=jobs, initializer=initialise, initargs=(payload, str(folder / "worker.log")))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, kill_workers=True)
        log = folder / "worker.log"
        if log.exists() and log.stat().st_size == 0:
            log.unlink()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Optuna's own lines off the terminal, where dropkit's are."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
