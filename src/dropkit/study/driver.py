"""The study itself: prepare, run what is missing, weigh the evidence, write the result."""

from __future__ import annotations

import operator
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dropkit.core.errors import InputError, phrase
from dropkit.study.arms import ArmSpec
from dropkit.study.cautions import cautions
from dropkit.study.checkpoint import Place
from dropkit.study.contrasts import contrasts, reference_of, references
from dropkit.study.diagnose import diagnose, first_of_all
from dropkit.study.diagnose_evidence import rate
from dropkit.study.engines.choice import Running, start
from dropkit.study.experiment import Experiment
from dropkit.study.fingerprint import fingerprint, structure
from dropkit.study.fused_choice import choose
from dropkit.study.instruments_time import time_in_dropout
from dropkit.study.ledger import Ledger
from dropkit.study.objectives import optimizer_name
from dropkit.study.prepare import Prepared, prepare, settled_model
from dropkit.study.provenance import git_state, machine, versions
from dropkit.study.reference import find_experiment
from dropkit.study.result import Arm, Provenance, Run, StudyResult, Summary
from dropkit.study.runner import Observer, Progress, clear, run_tasks
from dropkit.study.tensorboard import Board, board_in
from dropkit.study.verdict import judge
from dropkit.study.worker import dump, handed_over

_MOST_SEEDS = 1_000_000
_NAME = 60  # characters of an experiment's name that its folder has, in at most four bytes each

Source = Experiment | tuple[str, dict[str, Any]]  # or a reference and the options that go with it


@dataclass(frozen=True)
class _Settled:
    """What the arguments of a study come to once they are checked."""

    seeds: list[int]
    running: Running
    reference: str
    folder: Path


def run_study(source: Source, *, arms: ArmSpec | None, seeds: int | Sequence[int], out: str | os.PathLike[str] | None,
              observer: Observer, running: Running, tensorboard: str | os.PathLike[str] | bool = False) -> StudyResult:
    """Run or resume a study; see `dropkit.study`.

    Args:
        source: the experiment, or how `find_experiment` finds it; workers then find it anew, so nothing need be pickled.
        arms: as `make_arms` takes them.
        seeds: how many, or which.
        out: the folder; ``runs/<name>`` by default.
        observer: told about progress.
        running: where and how runs are executed.
        tensorboard: as in `dropkit.study`.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    chosen = _seeds(seeds)
    experiment = experiment_of(source)
    ready = prepare(experiment, arms)
    settled = _Settled(chosen, running, reference_of(ready.arms), _folder(out, _name(experiment)))
    board = board_in(tensorboard, settled.folder)
    digest = fingerprint(ready)
    plan = {arm.name: chosen for arm in ready.arms}
    with Ledger(settled.folder, digest, _name(experiment), plan) as ledger:
        clear(settled.folder)
        place = Place(settled.folder, digest, ready.data.digest, running.checkpoint_every)
        runs, seconds, notes = _run_missing(ready, settled, dump(source, arms, handed_over(ready)), observer,
                                            _Book(ready, ledger, place, {}, board))
    result = _weigh(ready, settled, runs, digest, Provenance(
        command=_command(), versions=versions(), machine=machine(), git=git_state(Path.cwd()),
        started=started.isoformat(timespec="seconds"), seconds=round(time.perf_counter() - clock, 3),
        jobs=running.workers, run_seconds=seconds, engine=running.engine, notes=[*notes, *_costs(ready)]))
    found, verdict = diagnose(result), result.verdict
    result = replace(result, diagnoses=found, verdict=replace(verdict, next_step=first_of_all(verdict.next_step, found)))
    result.save(settled.folder / "result.json")
    return result


def experiment_of(source: Source) -> Experiment:
    """Return the experiment, found by its reference where that is what was given.

    Raises:
        InputError: there is no such thing, or it is something else.
    """
    if isinstance(source, tuple):
        return find_experiment(source[0], **source[1])
    if not isinstance(source, Experiment):
        raise InputError("what is studied is a dropkit.Experiment, or named by text", got=phrase(type(source).__name__),
                         fix='Pass dk.Experiment(...), or for example "digits" or "file.py:experiment"')
    return source


def _costs(ready: Prepared) -> list[str]:
    """What dropout costs the arm that drops the most; nothing is said where no arm has a rate above 0."""
    most = max(ready.arms, key=rate)
    return [time_in_dropout(ready, most)] if rate(most) > 0 and ready.experiment.train is None else []


def _run_missing(ready: Prepared, settled: _Settled, payload: bytes, observer: Observer,
                 book: _Book) -> tuple[list[Run], dict[str, float], list[str]]:
    finished = book.ledger.finished(ready.arms, settled.seeds)
    progress = Progress(ready.arms, settled.seeds, ready.experiment.epochs, settled.running.workers,
                        finished={key: run for key, (run, _) in finished.items()}, kept=len(finished))
    book.seconds.update({key: spent for key, (_, spent) in finished.items()})
    if book.board is not None:
        book.board.catch_up(progress.finished.values())
    with ExitStack() as ends:
        left = len(ready.arms) * len(settled.seeds) - len(finished)
        if left:  # the engine first: its processes import what they need while the way is chosen
            engine = start(settled.running, payload, book.place, left)
            ends.callback(engine.close)
        way = choose(settled.running.fused, ready, settled.seeds, book.ledger)
        observer.update(progress)
        if left:
            # Seed by seed, so that a study stopped early has whole pairs rather than a whole arm.
            tasks = [unit for unit in way.units if any((ready.arms[arm].name, seed) not in finished for arm, seed in unit)]
            run_tasks(tasks, engine, settled.folder, progress, observer, book)
    runs = [progress.finished[arm.name, seed] for arm in ready.arms for seed in settled.seeds]
    seconds = {f"{arm}/{seed}": round(spent, 3) for (arm, seed), spent in sorted(book.seconds.items())}
    return runs, seconds, [*way.notes, *progress.notes]


@dataclass(frozen=True)
class _Book:
    """Puts runs into the ledger and the seconds they took into ``seconds``; a run in the ledger needs no checkpoint."""

    ready: Prepared
    ledger: Ledger
    place: Place
    seconds: dict[tuple[str, int], float]
    board: Board | None

    def keep(self, run: Run, seconds: float) -> None:
        arm = self.ready.arm(run.arm)
        self.ledger.add(arm, run, seconds)
        self.seconds[run.arm, run.seed] = seconds
        self.place.checkpoint(arm, run.seed).unlink(missing_ok=True)
        if self.board is not None:
            self.board.write(run)

    def fail(self, arm: Arm, seed: int, error: str) -> None:
        self.ledger.fail(arm, seed, error)


def _weigh(ready: Prepared, settled: _Settled, runs: list[Run], digest: str, provenance: Provenance) -> StudyResult:
    scores: dict[str, dict[int, float]] = {arm.name: {} for arm in ready.arms}
    for run in runs:
        scores[run.arm][run.seed] = run.test_metric
    summary = _summary(ready, digest, _margin(ready, scores[settled.reference]))
    found = contrasts(scores, references(ready.arms), summary.higher_is_better, summary.margin)
    return StudyResult(
        summary=summary, arms=ready.arms, seeds=settled.seeds, runs=runs, contrasts=found,
        verdict=judge(summary, ready.arms, found),
        cautions=[*ready.cautions, *cautions(runs, found, settled.seeds, summary, ready.arms)],
        provenance=provenance, out=str(settled.folder))


def _summary(ready: Prepared, digest: str, margin: float) -> Summary:
    experiment, part = ready.experiment, ready.part(0)
    model = settled_model(ready, ready.arms[-1])
    return Summary(
        name=_name(experiment), task=ready.data.task, metric=ready.metric_name, higher_is_better=ready.higher_is_better,
        unit="points" if ready.metric_name == "accuracy" else "", margin=margin, epochs=experiment.epochs,
        batch_size=experiment.batch_size, optimizer=optimizer_name(experiment), loss=ready.loss_name,
        n_train=len(part.x_train), n_val=len(part.x_val), n_test=len(part.x_test),
        n_features=list(part.x_train.shape[1:]), n_outputs=ready.n_outputs, model=structure(model),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()), data=ready.data.name,
        data_hash=ready.data.digest, experiment_hash=digest)


def _margin(ready: Prepared, reference: dict[int, float]) -> float:
    if ready.experiment.margin is not None:
        return float(ready.experiment.margin)
    if ready.metric_name == "accuracy":
        return 0.005
    return max(0.01 * abs(sum(reference.values()) / len(reference)), 1e-12)


def _name(experiment: Experiment) -> str:
    if experiment.name:
        return experiment.name
    return Path(experiment.data).stem if isinstance(experiment.data, (str, Path)) else "study"


def _folder(out: str | os.PathLike[str] | None, name: str) -> Path:
    if out is not None and not isinstance(out, str | os.PathLike):
        raise InputError("out is the path of a folder", got=out, fix="Pass text or a pathlib.Path")
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:_NAME]
    return Path(out) if out is not None else Path("runs") / (plain or "study")


def _seeds(seeds: Any) -> list[int]:
    try:
        number = None if isinstance(seeds, bool) else operator.index(seeds)
    except TypeError:
        number = None
    chosen = _listed(seeds) if number is None else list(range(min(number, _MOST_SEEDS + 1)))
    if not 0 < len(chosen) <= _MOST_SEEDS or not all(0 <= seed < 2**63 for seed in chosen) or len(set(chosen)) < len(chosen):
        raise InputError("seeds is a number of seeds of at least 1, or distinct whole numbers of at least 0", got=seeds,
                         fix="8 is a good number; under 5 give no verdict")
    return chosen


def _listed(seeds: Any) -> list[int]:
    """Return seeds that were given one by one as plain integers, NumPy's among them; nothing where they are something else."""
    try:
        return [] if any(isinstance(seed, bool) for seed in seeds) else [operator.index(seed) for seed in seeds]
    except TypeError:
        return []


def _command() -> str:
    program = "dropkit" if Path(sys.argv[0]).name in ("dropkit", "__main__.py", "main.py") else Path(sys.argv[0]).name
    return shlex.join([program, *sys.argv[1:]])


