"""What a study found: plain records, written to and read from ``result.json``.

Everything in a `StudyResult` except its `provenance` is a function of the experiment, the arms and the seeds: two runs of one
study on one machine agree to the bit, whatever the number of worker processes. Times and machine facts stay in `provenance`.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropkit.core.errors import InputError, phrase
from dropkit.core.files import write_atomically
from dropkit.study.recipe import Recipe
from dropkit.study.tuning.record import Tuning, tuning_from

if TYPE_CHECKING:
    import pandas

SCHEMA = 3

HELPS, HURTS, SAME, INCONCLUSIVE, LEANING = "helps", "hurts", "no meaningful difference", "inconclusive", "leaning"
NO_DIFFERENCE = "no difference"  # a leaning that is neither helps nor hurts


@dataclass(frozen=True)
class SiteRate:
    """A place where dropout acts and its rate in one arm: module path, kind, probability of dropping."""

    name: str
    kind: str
    p: float


@dataclass(frozen=True)
class Arm:
    """One configuration of a study: its name, sentences about it, the rate at each site, and changes to the recipe.

    ``reference`` names the arm that it is compared with where that is not the study's reference.
    """

    name: str
    description: str
    sites: list[SiteRate]
    recipe: Recipe = field(default_factory=Recipe)
    reference: str | None = None


@dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram over confidences in (low, high]; means are None in an empty bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Run:
    """One trained network: an arm with a seed.

    ``history`` holds, a value an epoch, ``train_loss`` and ``train_metric`` (training mode, dropout active, mean over the
    epoch's batches), ``train_eval_loss`` and ``train_eval_metric`` (training data, evaluation mode), ``val_loss`` and
    ``val_metric``. The plain fields are the values after the last epoch. ``gap`` is how much better the metric is on the
    training data than on the test data, both in evaluation mode; positive means overfitting. ``nll`` is in nats an example;
    ``brier``, ``ece`` and ``reliability`` are None outside classification. A value that is not finite is None, and
    ``status`` is then ``"diverged"``; the test metric of a diverged run is that of the best constant prediction.
    ``instruments`` holds what `dropkit.study.instruments` measured: ``"epoch"`` lists the epochs at which it did, every other
    name a value for each of them, or a dictionary of such lists by layer, but for ``early_slope``, a single number.
    """

    arm: str
    seed: int
    status: str
    train_loss: float | None
    train_metric: float | None
    train_eval_loss: float | None
    train_eval_metric: float | None
    val_loss: float | None
    val_metric: float | None
    test_loss: float | None
    test_metric: float
    gap: float | None
    nll: float | None
    brier: float | None
    ece: float | None
    reliability: list[Bin] | None
    history: dict[str, list[float | None]]
    instruments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnosis:
    """Something that the instruments show and a person would act on.

    ``kind`` is a short name such as ``"underfitting"``, ``arm`` the arm it was found in, ``sentence`` says it, ``evidence``
    gives the figures, ``remedy`` what to do.
    """

    kind: str
    arm: str
    sentence: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Contrast:
    """An arm against the reference arm, paired by seed.

    ``differences`` holds a value a seed, oriented so that positive means the arm is better, in the metric's unit. ``low`` and
    ``high`` bound the mean difference in a 95 % paired t interval. ``p_holm`` is ``p_t`` after Holm's step-down correction over
    the contrasts; ``p_sign_flip`` is the exact sign-flip test's (None under 6 seeds); ``p_equivalence`` the larger of the two
    one-sided tests against the margin. ``kind`` is the verdict on this contrast, ``leaning`` the sign of the mean
    (``"helps"``, ``"hurts"`` or ``"no difference"``). ``seeds_to_settle`` estimates the number of seeds that would end an
    inconclusive comparison with probability 0.8, or is None where that is not asked or not within reach.
    """

    arm: str
    reference: str
    seeds: list[int]
    differences: list[float]
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_t: float | None
    p_holm: float | None
    p_sign_flip: float | None
    p_equivalence: float | None
    kind: str
    leaning: str
    seeds_to_settle: int | None


@dataclass(frozen=True)
class Verdict:
    """The answer: ``kind`` is one of helps, hurts, no meaningful difference, inconclusive, leaning.

    ``sentence`` says it with effect and interval, ``next_step`` what to do, ``setting`` is code to paste, ``arm`` the arm that
    the setting makes, ``judged`` the arm whose contrast the sentence is about.
    """

    kind: str
    arm: str
    sentence: str
    next_step: str
    setting: str
    judged: str = ""


@dataclass(frozen=True)
class Summary:
    """The experiment in figures: what was trained, on what, and how it was scored.

    ``margin`` is the smallest difference worth having, in the metric's unit. ``unit`` is ``"points"`` where differences are
    shown as percentage points (a share between 0 and 1), else the empty string.
    """

    name: str
    task: str
    metric: str
    higher_is_better: bool
    unit: str
    margin: float
    epochs: int
    batch_size: int
    optimizer: str
    loss: str
    n_train: int
    n_val: int
    n_test: int
    n_features: list[int]
    n_outputs: int
    model: str
    n_parameters: int
    data: str
    data_hash: str
    experiment_hash: str


@dataclass(frozen=True)
class Provenance:
    """Where the numbers come from: command, versions, machine, times, engine. Not part of what must repeat.

    ``notes`` are sentences about how the runs were made, such as why they were not fused.
    """

    command: str
    versions: dict[str, str]
    machine: dict[str, str]
    git: dict[str, str]
    started: str
    seconds: float
    jobs: int
    run_seconds: dict[str, float]
    engine: str = "processes"
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StudyResult:
    """A whole study, as `dropkit.study` returns it and ``result.json`` holds it.

    ``cautions`` are sentences a careful reader should know before acting on the verdict. ``tuning`` is the search whose rates
    the study confirms, if it does.
    """

    summary: Summary
    arms: list[Arm]
    seeds: list[int]
    runs: list[Run]
    contrasts: list[Contrast]
    verdict: Verdict
    cautions: list[str]
    provenance: Provenance
    diagnoses: list[Diagnosis] = field(default_factory=list)
    tuning: Tuning | None = None
    out: str = field(default="", compare=False)

    def of_arm(self, arm: str) -> list[Run]:
        """Return the runs of ``arm``, in the order of the seeds."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.seed)

    def numbers(self) -> dict[str, Any]:
        """Return everything that must repeat to the bit: the result without its provenance and its place."""
        kept = to_json(self)
        del kept["provenance"]
        return kept

    def table(self) -> pandas.DataFrame:
        """Return a row an arm: mean and standard deviation of the test metric over seeds, and the contrast with the reference.

        Values are in the metric's own unit; ``difference`` is positive where the arm is better.
        """
        import pandas

        found = {contrast.arm: contrast for contrast in self.contrasts}
        scores = {arm.name: pandas.Series([run.test_metric for run in self.of_arm(arm.name)]) for arm in self.arms}
        rows = [{
            "arm": name, self.summary.metric: values.mean(), "sd": values.std(),
            **({"difference": found[name].mean, "low": found[name].low, "high": found[name].high,
                "p_holm": found[name].p_holm, "verdict": found[name].kind} if name in found else {"verdict": "reference"}),
        } for name, values in scores.items()]
        return pandas.DataFrame(rows).set_index("arm")

    def effects(self) -> pandas.DataFrame:
        """Return what each change of a factorial study is worth, and how each two go together; no rows for another study.

        A row is a change, or two joined by ``" x "``, whose ``difference`` is how much more the two are worth together than
        the sum of what each is worth alone; see `dropkit.study.effects`. Values are in the metric's own unit, positive where
        better.
        """
        import pandas

        from dropkit.study.effects import effects

        rows = [{"change": " x ".join(effect.changes), "difference": effect.mean, "low": effect.low, "high": effect.high,
                 "p_holm": effect.p_holm, "verdict": effect.kind} for effect in effects(self)]
        return pandas.DataFrame(rows, columns=["change", "difference", "low", "high", "p_holm", "verdict"]).set_index("change")

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the report, one HTML file that needs no network, and return its path.

        Args:
            path: the file; ``report.html`` in the study's folder by default.

        Raises:
            MissingExtraError: the extra ``report`` is not installed.
        """
        from dropkit.report.page import write_report

        return write_report(self, Path(path) if path is not None else Path(self.out) / "report.html")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result as JSON, whole or not at all, and return the path."""
        return write_atomically(path, json.dumps(to_json(self), indent=1, allow_nan=False) + "\n")


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return ``result`` as JSON-ready dictionaries and lists, headed by the schema's number."""
    kept = asdict(result)
    del kept["out"]
    return {"schema": SCHEMA, **kept}


def load_result(path: str | os.PathLike[str]) -> StudyResult:
    """Read a ``result.json``.

    Args:
        path: the file, or the study's folder that holds it.

    Raises:
        InputError: there is no such file, it is not JSON, or another version of dropkit wrote it.
    """
    file = Path(path)
    file = file / "result.json" if file.is_dir() else file
    if not file.exists():
        raise InputError("a report needs a finished study's result.json", got=str(path),
                         fix="Name the folder given to `dropkit study --out`, and finish the study first")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            raise InputError(f"result.json has schema {SCHEMA}",
                             got=raw.get("schema") if isinstance(raw, dict) else phrase("no schema"),
                             fix="Run the study again with this version of dropkit")
        return _whole(_result(raw, out=str(file.parent)))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError("result.json is what `dropkit study` wrote", got=phrase(f"{file.name}: {error}"),
                         fix="Run the study again to make it anew") from error


def finite(value: float) -> float | None:
    """Return ``value``, or None where it is infinite or not a number, which JSON cannot hold."""
    return value if math.isfinite(value) else None


def _result(raw: Mapping[str, Any], out: str) -> StudyResult:
    return StudyResult(
        summary=Summary(**raw["summary"]),
        arms=[_arm(arm) for arm in raw["arms"]],
        seeds=list(raw["seeds"]),
        runs=[run_from(run) for run in raw["runs"]],
        contrasts=[Contrast(**contrast) for contrast in raw["contrasts"]],
        verdict=Verdict(**raw["verdict"]),
        cautions=list(raw["cautions"]),
        provenance=Provenance(**raw["provenance"]),
        diagnoses=[Diagnosis(**diagnosis) for diagnosis in raw["diagnoses"]],
        tuning=tuning_from(raw["tuning"]) if raw.get("tuning") else None,
        out=out,
    )


def _whole(result: StudyResult) -> StudyResult:
    runs = {(run.arm, run.seed) for run in result.runs}
    missing = [f"{arm.name}, seed {seed}" for arm in result.arms for seed in result.seeds if (arm.name, seed) not in runs]
    if missing:
        raise KeyError(f"no run of {missing[0]}")
    return result


def _arm(raw: Mapping[str, Any]) -> Arm:
    return Arm(raw["name"], raw["description"], [SiteRate(**site) for site in raw["sites"]], Recipe(**raw["recipe"]),
               raw["reference"])


def run_from(raw: Mapping[str, Any]) -> Run:
    """Build a `Run` from its JSON form."""
    values = {item.name: raw[item.name] for item in fields(Run)}
    bins = values["reliability"]
    values["reliability"] = None if bins is None else [Bin(**bar) for bar in bins]
    return Run(**values)
