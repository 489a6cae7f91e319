"""Synthetic studies for the report's tests: seeded, shaped like real ones, without training anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from dropkit.study.recipe import Recipe
from dropkit.study.result import (
    HELPS,
    INCONCLUSIVE,
    LEANING,
    Arm,
    Bin,
    Contrast,
    Diagnosis,
    Provenance,
    Run,
    SiteRate,
    StudyResult,
    Summary,
    Verdict,
)

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=1"><b>50%{x}</b> & "quoted" {{ 7*7 }}'
RATES = {"none": 0.0, "reduced": 0.25, "intended": 0.5}


def classification(arms: Sequence[str] = tuple(RATES), seeds: int = 8, epochs: int = 40) -> StudyResult:
    """Three arms of a digit classifier; dropout helps by about a percentage point."""
    runs = [_classifier(arm, index, seed, epochs) for index, arm in enumerate(arms) for seed in range(seeds)]
    return _study(_summary(epochs=epochs), arms, list(range(seeds)), runs)


def regression(seeds: int = 8, epochs: int = 30) -> StudyResult:
    """Two arms of a regression scored by RMSE, lower is better, with no calibration."""
    arms = ["none", "intended"]
    runs = [_regressor(arm, index, seed, epochs) for index, arm in enumerate(arms) for seed in range(seeds)]
    summary = _summary(
        epochs=epochs, name="concrete strength", task="regression", metric="rmse", higher_is_better=False, unit="",
        margin=0.1, loss="mean squared error", n_outputs=1, n_features=[8], n_train=721, n_val=103, n_test=206)
    return _study(summary, arms, list(range(seeds)), runs)


def diverged() -> StudyResult:
    """One arm lost two runs, another lost all."""
    result = classification(arms=["none", "intended", "too much"], seeds=6)
    lost = {("intended", 1), ("intended", 4), *(("too much", seed) for seed in range(6))}
    runs = [_lose(run) if (run.arm, run.seed) in lost else run for run in result.runs]
    return _study(result.summary, ["none", "intended", "too much"], result.seeds, runs,
                  cautions=["8 of 18 runs diverged: their test metric is that of the best constant prediction."])


def single() -> StudyResult:
    """The smallest study: two arms, one seed, one epoch, no interval."""
    return classification(arms=["none", "intended"], seeds=1, epochs=1)


def many() -> StudyResult:
    """Leave-one-out over the layers: ten arms with long names."""
    arms = ["none", "intended", *(f"without encoder.layers.{layer}.dropout_after_attention" for layer in range(8))]
    return classification(arms=arms, seeds=5, epochs=12)


def four() -> StudyResult:
    """As many arms as stand side by side."""
    return classification(arms=["none", "reduced", "intended", "rising over ten epochs"], seeds=5, epochs=6)


def complete() -> StudyResult:
    """A sweep of rates, an arm without each of two sites, instruments, diagnoses and notes."""
    rates = {"none": (0.0, 0.0), "quarter": (0.125, 0.125), "half": (0.25, 0.25), "intended": (0.5, 0.5),
             "without layers.2": (0.0, 0.5), "without layers.5": (0.5, 0.0)}
    result = classification(arms=list(rates), seeds=5, epochs=12)
    arms = [dataclasses.replace(arm, sites=[SiteRate("layers.2", "Dropout", first), SiteRate("layers.5", "Dropout", second)])
            for arm, (first, second) in zip(result.arms, rates.values(), strict=True)]
    runs = [dataclasses.replace(run, instruments=_instruments(run, list(rates).index(run.arm))) for run in result.runs]
    away = [contrast(arm, "intended", runs, result.summary) for arm in list(rates)[4:]]
    diagnoses = [Diagnosis("underfitting", "intended", "The training loss is high already.", "0.31 against 0.02 in none.",
                           "Lower the rates.")]
    return dataclasses.replace(
        result, arms=arms, runs=runs, contrasts=[*result.contrasts[:3], *away], diagnoses=diagnoses,
        provenance=dataclasses.replace(result.provenance, engine="fused", notes=["Two groups of 15 runs."]))


def factorial() -> StudyResult:
    """Rates, weight decay and batch normalisation in all combinations, with long names."""
    settings = {"none": (0.0, {}), "intended": (0.5, {}), "weight_decay=0.001": (0.0, {"weight_decay": 0.001}),
                "batch_norm": (0.0, {"batch_norm": True}),
                "weight_decay=0.001+batch_norm": (0.0, {"weight_decay": 0.001, "batch_norm": True}),
                "intended+weight_decay=0.001": (0.5, {"weight_decay": 0.001}),
                "intended+batch_norm": (0.5, {"batch_norm": True}),
                "intended+weight_decay=0.001+batch_norm": (0.5, {"weight_decay": 0.001, "batch_norm": True})}
    result = classification(arms=list(settings), seeds=8, epochs=6)
    arms = [dataclasses.replace(arm, sites=[SiteRate("layers.2", "Dropout", rate)], recipe=Recipe(**changes))
            for arm, (rate, changes) in zip(result.arms, settings.values(), strict=True)]
    return dataclasses.replace(result, arms=arms)


def hostile() -> StudyResult:
    """Every text that a user can choose tries to leave its place."""
    result = classification(arms=[HOSTILE, f"{HOSTILE}2", "intended"], seeds=3, epochs=3)
    texts = {item.name: HOSTILE for item in dataclasses.fields(Summary) if isinstance(getattr(result.summary, item.name), str)}
    evil = {HOSTILE: HOSTILE}
    return dataclasses.replace(
        result,
        summary=dataclasses.replace(result.summary, **{**texts, "unit": "points", "task": "classification"}),
        arms=[dataclasses.replace(arm, description=HOSTILE, sites=[SiteRate(HOSTILE, HOSTILE, 0.5)]) for arm in result.arms],
        verdict=Verdict(LEANING, arm=HOSTILE, sentence=HOSTILE, next_step=HOSTILE, setting=HOSTILE),
        cautions=[HOSTILE],
        provenance=Provenance(HOSTILE, evil, evil, evil, HOSTILE, 1.0, 1, {HOSTILE: 1.0}))


def contrast(arm: str, reference: str, runs: Sequence[Run], summary: Summary) -> Contrast:
    """Compare two arms as the study does, with scipy's own paired t test."""
    scores = {(run.arm, run.seed): run.test_metric for run in runs}
    seeds = sorted({run.seed for run in runs})
    sign = 1.0 if summary.higher_is_better else -1.0
    differences = [sign * (scores[arm, seed] - scores[reference, seed]) for seed in seeds]
    mean = float(np.mean(differences))
    leaning = "helps" if mean > 0 else "hurts" if mean < 0 else "no difference"
    if len(seeds) < 2 or np.std(differences) == 0:
        return Contrast(arm, reference, seeds, differences, mean, None, None, None, None, None, None, None, LEANING,
                        leaning, None)
    sd = float(np.std(differences, ddof=1))
    half = float(stats.t.ppf(0.975, len(seeds) - 1)) * sd / len(seeds) ** 0.5
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    kind = leaning if abs(mean) > half else INCONCLUSIVE
    return Contrast(arm, reference, seeds, differences, mean, sd, mean - half, mean + half, p, min(1.0, 2 * p),
                    p if len(seeds) >= 6 else None, 0.4, kind if len(seeds) >= 5 else LEANING, leaning,
                    19 if kind == INCONCLUSIVE else None)


def _study(summary: Summary, arms: Sequence[str], seeds: list[int], runs: list[Run],
           cautions: Sequence[str] = ()) -> StudyResult:
    contrasts = [contrast(arm, arms[0], runs, summary) for arm in arms[1:]]
    best = max(contrasts, key=lambda item: item.mean)
    said = ("Dropout helps this model on this data" if best.kind == HELPS else f"The result is {best.kind}")
    return StudyResult(
        summary=summary,
        arms=[Arm(name, _describe(name), _sites(name)) for name in arms],
        seeds=seeds, runs=runs, contrasts=contrasts,
        verdict=Verdict(best.kind, best.arm,
                        f"{said}: {best.arm} changes the test {summary.metric} by {best.mean:+.4f} against {arms[0]}, "
                        f"over {len(seeds)} seeds.",
                        f"Keep {best.arm}; try the rates between {arms[0]} and {best.arm} if training time matters.",
                        'dk.set_rate(model, {"layers.2": 0.5, "layers.5": 0.5})'),
        cautions=[*cautions, "The test split holds 360 examples: one example is 0.28 percentage points.",
                  "Training loss in training mode is above that in evaluation mode: that is the noise, not underfitting."],
        provenance=_provenance(summary.name, runs))


def _describe(name: str) -> str:
    known = {"none": "all dropout off", "reduced": "half the intended rates", "intended": "the rates as the model has them"}
    return known.get(name, f"the intended rates, {name}")


def _sites(name: str) -> list[SiteRate]:
    p = RATES.get(name, 0.5)
    return [SiteRate("layers.2", "Dropout", p), SiteRate("layers.5", "Dropout", p)]


def _summary(**changes: object) -> Summary:
    common = Summary(
        name="digits", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005,
        epochs=40, batch_size=64, optimizer="AdamW(lr=0.001, weight_decay=0.01)", loss="cross entropy", n_train=1149,
        n_val=288, n_test=360, n_features=[64], n_outputs=10, n_parameters=85_002, data="scikit-learn digits, 8 x 8 pixels",
        model="Sequential(\n  (0): Linear(64, 256)\n  (1): ReLU()\n  (2): Dropout(p=0.5)\n  (3): Linear(256, 256)\n"
              "  (4): ReLU()\n  (5): Dropout(p=0.5)\n  (6): Linear(256, 10)\n)",
        data_hash="9f2b6c0d51e7a3b4", experiment_hash="c41d9a77e0b25f68")
    return dataclasses.replace(common, **changes)


def _provenance(name: str, runs: Sequence[Run]) -> Provenance:
    return Provenance(
        command=f"dropkit study {name.split()[0]} --seeds 8 --out runs/{name.split()[0]}",
        versions={"dropkit": "0.1.0", "torch": "2.13.0", "python": "3.11.7", "numpy": "2.4.6"},
        machine={"cpu": "a processor", "cores": "2", "system": "Linux"},
        git={"commit": "3e1f0c9", "state": "clean"}, started="2026-01-02T03:04:05Z", seconds=41.7, jobs=2,
        run_seconds={f"{run.arm}/{run.seed}": 1.5 + 0.1 * run.seed for run in runs})


def _classifier(arm: str, index: int, seed: int, epochs: int) -> Run:
    noise = np.random.default_rng([seed, index, 1])
    shared = np.random.default_rng([seed, 2]).normal(0, 0.004)  # what pairing takes out
    epoch = np.arange(1, epochs + 1)
    strength = min(index, 2) / 2
    falling = np.exp(-epoch / (4 + 4 * strength))
    train_eval = 2.2 * falling + 0.002 + 0.01 * strength + 0.01 * np.abs(noise.normal(size=epochs)) * falling
    train = train_eval + 0.02 + 0.25 * strength * (0.4 + falling)
    val = 2.2 * falling + 0.13 - 0.03 * strength + (0.003 - 0.002 * strength) * epoch + noise.normal(0, 0.006, epochs)
    top = 0.965 + 0.009 * strength + shared
    history = {
        "train_loss": train, "train_metric": 1 - 0.9 * falling - 0.03 * strength - 0.002,
        "train_eval_loss": train_eval, "train_eval_metric": 1 - 0.85 * falling,
        "val_loss": val, "val_metric": top - 0.85 * falling + noise.normal(0, 0.003, epochs)}
    test = float(round((top + noise.normal(0, 0.002)) * 360) / 360)
    last = {key: float(values[-1]) for key, values in history.items()}
    return Run(arm, seed, "finished", **last, test_loss=last["val_loss"] + 0.01, test_metric=test,
               gap=last["train_eval_metric"] - test, nll=last["val_loss"] + 0.01,
               brier=0.06 - 0.01 * strength + float(noise.normal(0, 0.002)),
               ece=0.03 - 0.015 * strength + float(noise.normal(0, 0.001)),
               reliability=_bins(noise, strength),
               history={key: [float(value) for value in values] for key, values in history.items()})


def _bins(noise: np.random.Generator, strength: float) -> list[Bin]:
    counts = noise.multinomial(360, [0.001, 0.002, 0.003, 0.008, 0.015, 0.021, 0.025, 0.035, 0.06, 0.83])
    bins = []
    for place, count in enumerate(counts):
        low, high = place / 10, (place + 1) / 10
        if count == 0:
            bins.append(Bin(low, high, 0, None, None))
            continue
        confidence = float(noise.uniform(low, high)) if place < 9 else 0.985
        accuracy = float(noise.binomial(count, confidence * (0.9 + 0.08 * strength))) / int(count)
        bins.append(Bin(low, high, int(count), confidence, accuracy))
    return bins


def _regressor(arm: str, index: int, seed: int, epochs: int) -> Run:
    noise = np.random.default_rng([seed, index, 3])
    shared = np.random.default_rng([seed, 4]).normal(0, 0.25)
    epoch = np.arange(1, epochs + 1)
    falling = np.exp(-epoch / 6)
    rmse = {"train": 4.2 + 0.8 * index + 12 * falling, "train_eval": 4.0 + 0.3 * index + 12 * falling,
            "val": 5.6 - 0.05 * index + 12 * falling + shared + noise.normal(0, 0.1, epochs)}
    history = {f"{kind}_{what}": values if what == "metric" else values**2
               for kind, values in rmse.items() for what in ("loss", "metric")}
    last = {key: float(values[-1]) for key, values in history.items()}
    test = float(5.5 - 0.08 * index + shared + noise.normal(0, 0.15))
    return Run(arm, seed, "finished", **last, test_loss=test**2, test_metric=test, gap=test - last["train_eval_metric"],
               nll=3.1 + 0.1 * index, brier=None, ece=None, reliability=None,
               history={key: [float(value) for value in values] for key, values in history.items()})


def _instruments(run: Run, index: int) -> dict[str, object]:
    noise = np.random.default_rng([run.seed, index, 5])
    return {"epoch": [1, 6, 12], "mask_noise": [float(value) for value in 0.2 * index + noise.uniform(0, 0.1, 3)],
            "gradient_norm": {layer: [float(value) for value in noise.uniform(0.1, 1, 3)] for layer in ("0", "3", "6")},
            **{f"ablation_{share}": {"3": [0.0, 0.1, 0.001 * share * (4 - index)], "6": [0.0, 0.1, 0.003 * share]}
               for share in (25, 50, 75)},
            "nothing_known": [None, None, None], "never_above_zero": [0.0, 0.0, 0.0], "early_slope": 0.2}


def _lose(run: Run) -> Run:
    """Make a run blow up: its loss grows, then is not finite any more."""
    history: dict[str, list[float | None]] = {}
    for key, values in run.history.items():
        growing = [(value or 0.0) + (3.0**epoch if key.endswith("loss") else 0.0) for epoch, value in enumerate(values[:9])]
        history[key] = [*growing, *[None] * (len(values) - 9)]
    gone = dict.fromkeys(("train_loss", "train_metric", "train_eval_loss", "train_eval_metric", "val_loss", "val_metric",
                          "test_loss", "gap", "nll", "brier", "ece", "reliability"))
    return dataclasses.replace(run, status="diverged", test_metric=0.1, history=history, **gone)
