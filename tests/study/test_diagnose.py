"""Findings: each from runs made to show it, none from healthy ones, and trained networks told apart."""

import dataclasses

import pytest
import torch
from torch import nn

from dropkit.study.diagnose import diagnose, first_of_all
from dropkit.study.recipe import Recipe
from dropkit.study.result import Arm, Run, SiteRate, load_result

from . import studied
from .studied import AlwaysOn, NeverOn, Noisy, hidden, result_of, study_of

ABOUT = dict(
    name="study", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005, epochs=20,
    batch_size=64, optimizer="adam(lr=0.001)", loss="cross_entropy", n_train=1000, n_val=300, n_test=300, n_features=[64],
    n_outputs=10, model="", n_parameters=1, data="digits", data_hash="", experiment_hash="")
HEALTHY = {"none": {"test": 0.96, "known": 1.0, "mask_noise": 0.0}, "intended": {"test": 0.97, "known": 1.0}}
FALLING = tuple(0.9 ** epoch for epoch in range(20))


def run(arm, seed, *, test=0.97, known=0.99, train_eval=0.05, val=None, status="finished", **instruments):
    """A run of 20 epochs; histories are constant unless given."""
    train_eval = train_eval if isinstance(train_eval, tuple) else (train_eval,) * 20
    val = val or (0.1,) * 20
    history = {"train_loss": list(train_eval), "train_metric": [known] * 20, "train_eval_loss": list(train_eval),
               "train_eval_metric": [known] * 20, "val_loss": list(val), "val_metric": [test] * 20}
    found = {"epoch": [1, 20], "data_noise": [1.0, 3.0], "mask_noise": [0.5, 1.0], "evaluation_noise": [0.0, 0.0],
             "output_zeros": [0.0, 0.0], "early_slope": 0.2, "dead": {"3": [0.0, 0.05]}, "no_gradient": {"0": [0.0, 0.05]}}
    return Run(arm=arm, seed=seed, status=status, **{name: values[-1] for name, values in history.items()}, test_loss=0.1,
               test_metric=test, gap=None if status == "diverged" else known - test, nll=0.1, brier=0.1, ece=0.01,
               reliability=None, history=history, instruments={**found, **instruments})


def study(arms, rates=None, recipes=None, seeds=5, **about):
    """A result of three-site arms, each run of an arm made of the same figures."""
    rates, recipes = {"none": 0.0, **(rates or {})}, recipes or {}
    made = [Arm(name, "", [SiteRate("2", "dropout", rates.get(name, 0.5))], recipes.get(name, Recipe())) for name in arms]
    return result_of(studied.Summary(**{**ABOUT, **about}), made,
                     [run(name, seed, **figures) for name, figures in arms.items() for seed in range(seeds)])


def changed(**figures):
    """The healthy study with other figures for the intended arm."""
    return study({**HEALTHY, "intended": {**HEALTHY["intended"], **figures}})


def kinds(result):
    return [(found.kind, found.arm) for found in diagnose(result)]


def test_a_healthy_study_has_no_findings():
    assert kinds(study(HEALTHY)) == []
    assert kinds(study({**HEALTHY, "reduced": {}}, rates={"reduced": 0.25})) == []


def ending(fall, epochs=40):
    """A validation loss that lies lower by a share in the last tenth of the epochs, and is level otherwise."""
    tenth = max(1, round(epochs / 10))
    return (1.0,) * (epochs - tenth) + (1.0 - fall,) * tenth


@pytest.mark.parametrize("epochs", [2, 9, 40])
def test_an_arm_has_not_converged_where_most_runs_still_improve(epochs):
    def of(falling, fall):
        runs = [run("intended", seed, val=ending(fall if seed < falling else 0.0, epochs)) for seed in range(8)]
        return kinds(result_of(studied.Summary(**{**ABOUT, "epochs": epochs}),
                               [Arm("intended", "", [SiteRate("2", "dropout", 0.5)], Recipe())], runs))

    assert of(5, 0.03) == [("not converged", "intended")]
    assert of(4, 0.03) == of(8, 0.019) == of(8, -0.5) == []


def test_only_what_may_change_the_verdict_goes_before_its_next_step():
    assert first_of_all("Stay.", diagnose(changed(dead={"3": [0.0, 0.4]}))) == "Stay."
    told = diagnose(changed(val=FALLING, variance_shift={"4": [1.1, 1.5]}))
    assert first_of_all("Stay.", told) == (
        "First see to what was found (misplaced, not converged), which may change the verdict. If it stands: stay.")


def test_diverged_runs_and_gaps_say_nothing_of_convergence():
    def of(*runs):
        return diagnose(result_of(studied.Summary(**ABOUT), [Arm("none", "", [SiteRate("2", "dropout", 0.0)], Recipe())], runs))

    assert of(*(run("none", seed, val=(1.0, None)) for seed in range(3))) == []
    told = of(run("none", 0, val=(1.0, None), status="diverged"), run("none", 1, val=ending(0.5)))
    assert [each.evidence for each in told if each.kind == "not converged"] == [
        "validation loss fell by 50 % over the last tenth of 20 epochs, in 1 of 1 run"]


@pytest.mark.parametrize(("figures", "kind"), [
    ({"train_eval": 0.5, "val": (0.52,) * 20, "test": 0.9, "known": 0.9}, "underfitting"),
    ({"mask_noise": [0.0, 0.0]}, "mode bug"),
    ({"evaluation_noise": [0.3, 0.3]}, "mode bug"),
    ({"variance_shift": {"4": [1.1, 1.5]}}, "misplaced"),
    ({"variance_shift": {"4": [1.1, 0.7]}}, "misplaced"),
    ({"output_zeros": [0.5, 0.5]}, "misplaced"),
    ({"dead": {"3": [0.0, 0.4]}}, "dead units"),
    ({"val": FALLING}, "not converged"),
    ({"status": "diverged"}, "learning rate"),
    ({"train_eval": (1.0, *(0.1,) * 10, *(0.9,) * 9)}, "learning rate"),
    ({"train_eval": 2.0, "val": (3.0,) * 20, "early_slope": 0.001, "data_noise": [0.3, 0.4]}, "learning rate"),
    ({"mask_noise": [0.01, 0.02], "test": 0.96, "known": 1.0}, "rate too low"),
], ids=lambda value: value if isinstance(value, str) else "-".join(value))
def test_each_finding_comes_from_its_figures_alone(figures, kind):
    assert kinds(changed(**figures)) == [(kind, "intended")]


@pytest.mark.parametrize("figures", [
    {"variance_shift": {"4": [3.0, 1.1]}},  # it is the trained network that counts
    {"train_eval": 0.5, "val": (0.52,) * 20, "test": 0.98, "known": 0.98},  # fits worse and predicts better
    {"train_eval": 2.0, "val": (3.0,) * 20, "early_slope": 0.001, "data_noise": [0.3, 4.0]},  # as low as it gets
    {"mask_noise": [0.01, 0.02], "test": 0.99, "known": 1.0},  # a low rate that does narrow the gap
    {"output_zeros": [None, None]},
    {"train_eval": (1.0, *(1e-6,) * 10, *(1e-4,) * 9)},  # jitter at the bottom
], ids=["shift", "better", "floor", "narrower", "rectified", "jitter"])
def test_what_looks_like_a_finding_and_is_none(figures):
    assert kinds(changed(**figures)) == []


NOISY = {"train_eval": 0.5, "val": (0.3,) * 20, "known": 0.9}  # noisy labels for training, clean ones for validation
WORSE = {**NOISY, "train_eval": 0.53, "test": 0.95}


def noisy(**figures):
    """A study of an easier validation part, with other figures for the intended arm."""
    return study({"none": {**NOISY, "test": 0.96, "mask_noise": [0.0, 0.0]}, "intended": {**WORSE, **figures}})


def test_underfitting_is_measured_against_the_arm_without_dropout_and_not_against_an_easier_part_of_the_data():
    found, = diagnose(noisy())
    assert (found.kind, found.arm) == ("underfitting", "intended")
    assert "training loss 0.53 (evaluation mode), 0.03 above that of 'none' seed by seed" in found.evidence
    assert kinds(noisy(train_eval=0.524)) == []  # fitted as well, but for less than 5 %
    assert kinds(noisy(test=0.956)) == []  # a loss within the margin


def test_a_loss_of_score_that_is_noise_makes_no_underfitting():
    result = noisy()
    scores = (0.90, 0.97, 0.965, 0.955, 0.96)  # 1 point lower on average, all by the first seed
    runs = [dataclasses.replace(each, test_metric=scores[each.seed]) if each.arm == "intended" else each
            for each in result.runs]
    assert kinds(dataclasses.replace(result, runs=runs)) == []


def test_rates_too_low_to_matter_are_not_said_to_be_lowered():
    """Neither the arm's own, nor lower ones."""
    faint = {**WORSE, "mask_noise": [0.01, 0.02]}
    assert ("underfitting", "intended") not in kinds(noisy(mask_noise=[0.01, 0.02]))
    said = kinds(study({"none": {**NOISY, "test": 0.96, "known": 0.91, "mask_noise": [0.0, 0.0]}, "reduced": WORSE,
                        "intended": faint}, rates={"reduced": 0.25}))
    assert said == [("rate too low", "intended")]


def test_what_is_random_in_evaluation_in_every_arm_is_not_an_arms_dropout():
    noise = {"evaluation_noise": [0.3, 0.3]}
    found, = diagnose(study({"none": {**HEALTHY["none"], **noise}, "intended": {**HEALTHY["intended"], **noise}}))
    assert (found.kind, found.arm) == ("mode bug", "none")
    assert "in every arm, also in 'none', where every rate of the study is 0" in found.sentence
    assert "most likely dropout" not in found.sentence
    assert "30 % in 'none', 30 % in 'intended'" in found.evidence
    found, = diagnose(study({"none": {**HEALTHY["none"], **noise}, "intended": {**HEALTHY["intended"]}}))
    assert "every arm" not in found.sentence


def test_overfitting_that_dropout_has_cut():
    wide = {"none": {"test": 0.8, "known": 1.0, "mask_noise": 0.0}, "intended": {"test": 0.85, "known": 0.98}}
    found, = diagnose(study(wide))
    assert (found.kind, found.evidence) == ("overfitting", "gap 13.00 points, against 20.00 points for 'none'")
    assert "'more': 1.5" in found.remedy
    assert kinds(study(wide, rates={"intended": 0.9})) == []  # there is hardly any more of it
    assert kinds(study({"none": wide["intended"], "intended": {"test": 0.8, "known": 1.0}})) == []


def test_a_raise_after_the_turn():
    turned = (0.3, 0.2, *(0.2 + 0.01 * epoch for epoch in range(18)))
    arms = {"none": HEALTHY["none"], "late": {"val": turned}}
    said = diagnose(study(arms, recipes={"late": Recipe(schedule="join([0, 1], [200])")}))
    assert [(found.kind, found.arm) for found in said] == [("raised too late", "late")]
    assert "reached in epoch 13; the validation loss was lowest in epoch 2 of 20" in said[0].evidence
    assert kinds(study(arms, recipes={"late": Recipe(schedule="linear(1, 0)")})) == []
    assert kinds(study({**arms, "late": {}}, recipes={"late": Recipe(schedule="join([0, 1], [200])")})) == []


def test_one_odd_seed_is_no_finding():
    result = changed()
    runs = [dataclasses.replace(found, instruments={**found.instruments, "dead": {"3": [0.9, 0.9]}, "mask_noise": [0.0, 0.0]})
            if found.seed == 0 else found for found in result.runs]
    assert kinds(dataclasses.replace(result, runs=runs)) == []


def test_studies_without_instruments_or_a_plain_arm_are_read():
    result = study({"reduced": {}, "intended": {}}, rates={"reduced": 0.25})
    bare = dataclasses.replace(result, runs=[dataclasses.replace(found, instruments={}) for found in result.runs])
    assert kinds(result) == kinds(bare) == []


def test_masks_that_drop_everything_are_alike_and_no_bug():
    result = changed(mask_noise=[0.0, 0.0])
    assert ("mode bug", "intended") in kinds(result)
    arms = [dataclasses.replace(arm, sites=[dataclasses.replace(site, p=float(site.p > 0)) for site in arm.sites])
            for arm in result.arms]
    assert ("mode bug", "intended") not in kinds(dataclasses.replace(result, arms=arms))


def test_findings_are_kept_with_the_result(tmp_path):
    result = changed(output_zeros=[0.5, 0.5])
    result = dataclasses.replace(result, diagnoses=diagnose(result))
    result.save(tmp_path / "result.json")
    assert load_result(tmp_path).diagnoses == result.diagnoses


@pytest.mark.slow
@pytest.mark.parametrize(("model", "fields", "kind", "words"), [
    (lambda: hidden(nn.ReLU(), nn.Dropout(0.3)), {}, None, ""),
    (lambda: hidden(nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.5)), {}, None, ""),
    (lambda: hidden(nn.Dropout(0.5), nn.BatchNorm1d(64), nn.ReLU()), {}, "misplaced", "before BatchNorm '3'"),
    (lambda: hidden(nn.ReLU(), head=[nn.Dropout(0.3)]), {}, "misplaced", "drops the network's outputs"),
    (lambda: hidden(nn.ReLU(), nn.Dropout(0.95)), {}, "underfitting", "no gap to close"),
    (AlwaysOn, {"rates": {"p": 0.3}}, "mode bug", "In arm 'intended' something random is at work in evaluation"),
    (Noisy, {}, "mode bug", "in every arm, also in 'none'"),
    (NeverOn, {"rates": {"p": 0.3}}, "mode bug", "never acts in training"),
], ids=["healthy", "healthy_norm", "misplaced", "output", "over_regularised", "always_on", "noisy", "never_on"])
def test_trained_networks_are_told_apart(model, fields, kind, words):
    found = [each for each in diagnose(study_of(model, **fields)) if each.kind != "not converged"]
    assert [each.kind for each in found] == ([] if kind is None else [kind])
    assert all(words in each.sentence for each in found)


@pytest.mark.slow
def test_noisy_training_labels_are_no_underfitting():
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(3000, 10, generator=generator), torch.randn(10, 3, generator=generator)
    y = (2 * x @ weight).argmax(1)
    wrong = torch.rand(2000, generator=generator) < 0.15
    known = y[:2000].clone()
    known[wrong] = torch.randint(0, 3, (int(wrong.sum()),), generator=generator)
    data = {"train": (x[:2000], known), "val": (x[2000:2500], y[2000:2500]), "test": (x[2500:], y[2500:])}

    def build():
        return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.02), nn.Linear(64, 3))

    result = study_of(build, arms=None, seeds=5, data=data, epochs=12)
    assert {kind for kind, _ in kinds(result)} <= {"rate too low", "not converged"}
