"""Studies of many arms: who is compared with whom, and what is said of remedies, sites and sweeps."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from dropkit.core.errors import InputError
from dropkit.study.cautions import cautions
from dropkit.study.contrasts import contrasts, reference_of, references
from dropkit.study.recipe import Recipe
from dropkit.study.result import HELPS, HURTS, SAME, Arm, Run, SiteRate, Summary
from dropkit.study.statistics import holm
from dropkit.study.verdict import judge

SUMMARY = Summary(
    name="digits", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005, epochs=40,
    batch_size=64, optimizer="adam", loss="cross_entropy", n_train=1079, n_val=359, n_test=359, n_features=[64],
    n_outputs=10, model="mlp", n_parameters=1000, data="digits", data_hash="", experiment_hash="")
CLEAR, SMALL = 0.0082, 0.0005


def arm(name, *rates, against=None, **changes):
    sites = [SiteRate(str(3 * index + 1), "dropout", p) for index, p in enumerate(rates)]
    return Arm(name, "", sites, Recipe(**changes), against)


NONE, INTENDED = arm("none", 0.0, 0.0), arm("intended", 0.25, 0.5)
WITHOUT = [arm("without 1", 0.0, 0.5, against="intended"), arm("without 4", 0.25, 0.0, against="intended")]


def spread(mean, sd, n=8):
    raw = np.arange(n) - (n - 1) / 2
    return mean + sd * raw / raw.std(ddof=1)


def judged(arms, **levels):
    """Judge ``arms``: a level is a mean difference from 0.9, or (mean, sd) of it over the seeds."""
    values = {one.name: levels.get(one.name, 0.0) for one in arms}
    scores = {name: dict(enumerate((0.9 + spread(*(level if isinstance(level, tuple) else (level, 0.0)))).tolist()))
              for name, level in values.items()}
    found = contrasts(scores, references(arms), True, 0.005)
    return found, judge(SUMMARY, arms, found)


def test_the_reference_drops_nothing_and_changes_nothing_else_it_is_the_first():
    decayed = arm("weight_decay=0.001", 0.0, 0.0, weight_decay=0.001)
    assert reference_of([decayed, INTENDED, NONE]) == "none"
    assert reference_of([decayed, INTENDED]) == "weight_decay=0.001"
    assert references([decayed, INTENDED, NONE]) == {"weight_decay=0.001": "none", "intended": "none"}
    assert references([INTENDED, *WITHOUT]) == {"without 1": "intended", "without 4": "intended"}


def test_every_arm_has_its_own_reference_and_holm_is_over_all():
    found, _ = judged([NONE, INTENDED, *WITHOUT], intended=(0.006, 0.006), **{"without 1": (0.001, 0.006)})
    assert [(one.arm, one.reference) for one in found] == [
        ("intended", "none"), ("without 1", "intended"), ("without 4", "intended")]
    assert found[1].mean == pytest.approx(0.001 - 0.006)
    assert [one.p_holm for one in found] == holm([one.p_t for one in found])


def test_a_reference_that_is_no_arm_is_refused():
    with pytest.raises(InputError, match="one of the arms"):
        contrasts({"a": {0: 1.0}, "b": {0: 1.0}}, {"b": "nowhere"}, True, 0.1)


@pytest.mark.parametrize(("name", "rates", "changes", "words"), [
    ("weight_decay=0.001", (0.0, 0.0), {"weight_decay": 0.001}, "Weight decay 0.001 helps: with arm 'weight_decay=0.001', test "
     "accuracy is 0.82 points higher than without (95 % interval 0.41 to 1.23, 8 paired seeds)."),
    ("both", (0.25, 0.5), {"weight_decay": 0.001}, "Dropout with weight decay 0.001 helps: with arm 'both', test accuracy "
     "is 0.82 points higher than with neither (95 % interval 0.41 to 1.23, 8 paired seeds)."),
    ("new", (0.25, 0.5), {"variant": "gaussian_dropout"}, "Gaussian dropout helps: with arm 'new', test accuracy is 0.82 "
     "points higher than without (95 % interval 0.41 to 1.23, 8 paired seeds)."),
    ("members=4", (0.0, 0.0), {"members": 4}, "Ensemble of 4 at equal cost helps: with arm 'members=4', test accuracy is 0.82 "
     "points higher than without (95 % interval 0.41 to 1.23, 8 paired seeds)."),
])
def test_a_remedy_is_called_by_its_name(name, rates, changes, words):
    _, verdict = judged([NONE, arm(name, *rates, **changes)], **{name: (CLEAR, 0.0049)})
    assert verdict.sentence == words
    assert (verdict.arm, verdict.judged) == (name, name)
    assert verdict.next_step == "Keep the setting shown."
    assert verdict.setting.endswith(f"  # with {Recipe(**changes).words()}")


def test_the_intended_arm_is_judged_wherever_it_stands_unless_another_helps():
    decayed = arm("weight_decay=0.001", 0.0, 0.0, weight_decay=0.001)
    _, verdict = judged([NONE, INTENDED, decayed], intended=(SMALL, 0.002))
    assert (verdict.kind, verdict.judged, verdict.arm) == (SAME, "intended", "none")
    _, verdict = judged([NONE, INTENDED, decayed], intended=(SMALL, 0.002), **{"weight_decay=0.001": (CLEAR, 0.0049)})
    assert verdict.sentence.startswith("Weight decay 0.001 helps: ")
    assert "the intended rates make no difference" in verdict.sentence


def test_sites_earn_their_keep_or_not():
    found, verdict = judged([NONE, INTENDED, *WITHOUT], intended=(CLEAR, 0.0049), **{"without 4": (CLEAR, 0.0049)})
    assert [one.kind for one in found] == [HELPS, HURTS, SAME]
    assert verdict.judged == "intended"
    assert verdict.sentence.startswith("Dropout helps: ")
    assert verdict.sentence.endswith(" By site: '1' earns its keep (0.82 points worse without it); '4' makes no difference.")


def test_leaving_out_is_judged_by_itself_where_nothing_else_is_compared():
    _, verdict = judged([INTENDED, *WITHOUT], **{"without 4": (CLEAR, 0.0049)})
    assert verdict.sentence == (
        "Leaving out dropout at '4' helps: with arm 'without 4', test accuracy is 0.82 points higher than with the intended "
        "rates (95 % interval 0.41 to 1.23, 8 paired seeds). By site: '4' does harm (0.82 points better without it); '1' makes "
        "no difference.")
    assert verdict.setting == 'dk.set_rate(model, {"1": 0.25, "4": 0.0})'


def test_a_sweep_names_its_best_rate_and_what_cannot_be_told_from_it():
    arms = [NONE, arm("rate=0.1", 0.1, 0.1), arm("rate=0.2", 0.2, 0.2), arm("rate=0.5", 0.5, 0.5)]
    _, verdict = judged(arms, **{"rate=0.1": (0.008, 0.002), "rate=0.2": (0.0085, 0.003), "rate=0.5": (-0.03, 0.002)})
    assert verdict.judged == "rate=0.2"
    # The lead over 0.1 is .0005 with sd .001, so its interval is .05 +- 2.365 * .1 / sqrt(8) = .05 +- .08 points.
    assert verdict.next_step.endswith(" Of 4 settings of the rates 'rate=0.2' has the best mean, 0.05 points ahead of "
                                      "'rate=0.1' (95 % interval 0.03 behind to 0.13 ahead); within the noise of it: "
                                      "'rate=0.1'.")


def test_the_best_of_a_sweep_may_be_level_with_the_next():
    arms = [NONE, arm("rate=0.1", 0.1, 0.1), arm("rate=0.2", 0.2, 0.2), arm("rate=0.5", 0.5, 0.5)]
    _, verdict = judged(arms, **{"rate=0.1": (0.008, 0.002), "rate=0.2": (0.008, 0.002), "rate=0.5": (-0.03, 0.002)})
    assert "has the best mean, level with 'rate=0." in verdict.next_step


def test_three_arms_are_no_sweep():
    _, verdict = judged([NONE, arm("reduced", 0.1, 0.2), INTENDED], intended=(CLEAR, 0.0049), reduced=(0.001, 0.002))
    assert "settings of the rates" not in verdict.next_step


def run(name, epochs):
    losses = [float(value) for value in epochs] if isinstance(epochs, list) else [0.5] * epochs
    return Run(arm=name, seed=0, status="finished", train_loss=0.1, train_metric=0.9, train_eval_loss=0.1,
               train_eval_metric=0.9, val_loss=0.5, val_metric=0.9, test_loss=0.3, test_metric=0.9, gap=0.0, nll=0.3,
               brier=0.1, ece=0.01, reliability=None, history={"val_loss": losses})


def test_unequal_budgets_are_cautioned():
    stops, three = arm("early_stopping=5", 0.0, early_stopping=5), arm("members=3", 0.0, members=3)
    said = cautions([run("none", 40), run("early_stopping=5", 12), run("early_stopping=5", 15)], [], range(8), SUMMARY,
                    [NONE, stops, arm("members=4", 0.0, members=4)])
    assert len(said) == 1
    assert said[0].startswith("Arm 'early_stopping=5' ran 13.5 of 40 epochs on average and is scored at its best epoch")
    said = cautions([run("members=3", 3)], [], range(8), replace(SUMMARY, epochs=11), [three])
    assert said == ["Arm 'members=3' spent 9 of 11 epochs, because its 3 members share them evenly; choose a number of epochs "
                    "that they divide."]


@pytest.mark.slow
def test_false_helps_of_studies_of_many_arms(monkeypatch):
    """No effect anywhere: at most 3 of 100 studies of seven contrasts with two references say that something helps.

    Holm bounds any false rejection by 5 %, half of it in each direction. Of 2,000 studies at 2.5 % that is 50 with a standard
    deviation of 7; the shared references make the true rate smaller, so 60 is passed with probability below .08 at the worst.
    """
    for name in ("seeds_to_settle", "sign_flip"):  # slow, and no part of what is counted
        monkeypatch.setattr(sys.modules["dropkit.study.contrasts"], name, lambda *_, **__: None)
    rng = np.random.default_rng(31)
    arms = [NONE, arm("reduced", 0.125, 0.25), INTENDED, *WITHOUT, arm("decayed", 0.0, 0.0, weight_decay=0.001),
            arm("noise=0.1", 0.0, 0.0, noise=0.1), arm("members=4", 0.0, 0.0, members=4)]
    said = 0
    for _ in range(2000):
        scores = {one.name: dict(enumerate(rng.normal(0.9, 0.01, 8).tolist())) for one in arms}
        found = contrasts(scores, references(arms), True, 0.005)
        said += any(one.kind == HELPS for one in found)
        assert len(found) == 7
    assert 0 < said <= 0.03 * 2000


@pytest.mark.slow
def test_power_of_a_whole_study_at_one_standard_deviation(monkeypatch):
    """One contrast, eight seeds, a true effect of one standard deviation of the differences: found at least 6 times in 10.

    The power is .683 (see `test_statistics`); 4 binomial standard deviations of 2,000 studies are .042.
    """
    monkeypatch.setattr(sys.modules["dropkit.study.contrasts"], "seeds_to_settle", lambda *_, **__: None)
    rng = np.random.default_rng(32)
    kinds = []
    for _ in range(2000):
        differences = rng.normal(0.01, 0.01, 8)
        scores = {"none": dict.fromkeys(range(8), 0.9), "intended": dict(enumerate((0.9 + differences).tolist()))}
        kinds.append(judge(SUMMARY, [NONE, INTENDED], contrasts(scores, "none", True, 0.005)).kind)
    assert kinds.count(HELPS) >= 0.6 * 2000
