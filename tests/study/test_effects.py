"""Main effects and interactions of factorial studies, against figures worked out by hand."""

import dataclasses

import numpy as np
import pytest

from dropkit.study.effects import LESS, MORE, crossing, effects
from dropkit.study.recipe import Recipe
from dropkit.study.result import (
    HELPS,
    HURTS,
    INCONCLUSIVE,
    LEANING,
    Arm,
    Provenance,
    Run,
    SiteRate,
    StudyResult,
    Summary,
    Verdict,
)

RUN = Run("", 0, "finished", None, None, None, None, None, None, None, 0.0, None, None, None, None, None, {})
SUMMARY = Summary("s", "t", "accuracy", True, "points", 0.005, 1, 1, "adam", "l", 1, 1, 1, [1], 1, "", 1, "", "", "")
ORDER = np.random.default_rng(7)


def arm(name, rate, **changes):
    return Arm(name, "", [SiteRate("1", "Dropout", rate), SiteRate("4", "Dropout", rate)], Recipe(**changes))


TWO = [arm("none", 0.0), arm("intended", 0.5), arm("decay", 0.0, weight_decay=0.1), arm("both", 0.5, weight_decay=0.1)]


def study(arms, score, seeds=6, higher=True):
    runs = [dataclasses.replace(RUN, arm=one.name, seed=seed, test_metric=score(one.name, seed))
            for one in arms for seed in range(seeds)]
    return StudyResult(dataclasses.replace(SUMMARY, higher_is_better=higher), arms, list(range(seeds)), runs, [],
                       Verdict("", "", "", "", ""), [], Provenance("", {}, {}, {}, "", 0.0, 1, {}))


def noise(arm, seed, size=0.001):
    """The seed's own part, which is the same in every arm, and a little of each run's."""
    return 0.05 * seed + size * float(np.random.default_rng([seed, *arm.encode()]).standard_normal())


def test_two_changes_and_their_interaction():
    """With y_0 = 0.5, y_a = 0.6, y_b = 0.55 and y_ab = 0.61, a is worth (0.1 + 0.06) / 2, b (0.05 + 0.01) / 2, both -0.04."""
    means = {"none": 0.5, "intended": 0.6, "decay": 0.55, "both": 0.61}
    found = effects(study(TWO, lambda name, seed: means[name] + 0.05 * seed))
    assert [effect.changes for effect in found] == [("intended",), ("decay",), ("intended", "decay")]
    assert [effect.mean for effect in found] == pytest.approx([0.08, 0.03, -0.04])
    for effect in found:
        assert effect.differences == pytest.approx([effect.mean] * 6)


def test_what_is_settled_gets_its_word_and_what_is_not_does_not():
    means = {"none": 0.5, "intended": 0.6, "decay": 0.5, "both": 0.6}
    helps, open_, adds = effects(study(TWO, lambda name, seed: means[name] + noise(name, seed)))
    assert (helps.kind, open_.kind, adds.kind) == (HELPS, INCONCLUSIVE, INCONCLUSIVE)
    assert helps.low < 0.1 < helps.high
    assert helps.p_holm == pytest.approx(3 * helps.p_t)
    means["both"] = 0.3
    hurts, hurts_too, less = effects(study(TWO, lambda name, seed: means[name] + noise(name, seed)))
    assert (hurts.kind, hurts_too.kind, less.kind) == (HURTS, HURTS, LESS)
    means["both"] = 0.9
    assert effects(study(TWO, lambda name, seed: means[name] + noise(name, seed)))[2].kind == MORE


def test_a_metric_that_is_to_be_small_is_turned():
    means = {"none": 0.5, "intended": 0.4, "decay": 0.5, "both": 0.4}
    found = effects(study(TWO, lambda name, seed: means[name] + noise(name, seed), higher=False))
    assert found[0].kind == HELPS
    assert found[0].mean == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("seeds", [1, 4])
def test_few_seeds_only_lean(seeds):
    found = effects(study(TWO, noise, seeds=seeds))
    assert {effect.kind for effect in found} == {LEANING}
    assert (found[0].low is None) == (seeds == 1)


def test_three_factors_one_of_three_levels_agree_with_least_squares():
    """In an additive world the main effects are the coefficients of a regression on the levels, and no interaction is left."""
    arms = [arm(f"{rate}/{decay}/{norm}", rate, **({"weight_decay": decay} if decay else {}), batch_norm=norm)
            for rate in (0.5, 0.0, 0.2) for decay in (0.0, 0.1) for norm in (False, True)]
    worth = {"0.5": -0.03, "0.2": 0.02, "0.1": 0.01, "True": 0.04}
    found = effects(study(arms, lambda name, seed: 0.5 + seed + sum(worth.get(part, 0.0) for part in name.split("/"))))
    mains = {effect.changes[0]: effect.mean for effect in found if len(effect.changes) == 1}
    assert mains == pytest.approx({"0.2/0.0/False": 0.02, "0.5/0.0/False": -0.03, "0.0/0.1/False": 0.01, "0.0/0.0/True": 0.04})
    pairs = [effect for effect in found if len(effect.changes) == 2]
    assert len(pairs) == 2 * 1 + 2 * 1 + 1
    assert [effect.mean for effect in pairs] == pytest.approx([0.0] * 5)


def test_the_order_of_the_arms_does_not_matter():
    means = {"none": 0.5, "intended": 0.6, "decay": 0.55, "both": 0.61}
    for _ in range(5):
        arms = [TWO[place] for place in ORDER.permutation(4)]
        found = effects(study(arms, lambda name, seed: means[name] + 0.05 * seed))
        assert {effect.changes: round(effect.mean, 6) for effect in found} == {
            ("intended",): 0.08, ("decay",): 0.03, ("intended", "decay"): -0.04}


def test_what_adds_up_but_for_rounding_adds_up():
    means = {"none": 0.7, "intended": 0.8, "decay": 0.8, "both": 0.9}
    assert (0.9 - 0.8) - (0.8 - 0.7) != 0
    together = effects(study(TWO, lambda name, seed: means[name]))[2]
    assert together.differences == [0.0] * 6
    assert together.kind == INCONCLUSIVE


def test_recipes_alone_can_cross():
    arms = [arm("plain", 0.5), arm("norm", 0.5, batch_norm=True), arm("noise", 0.5, noise=0.1),
            arm("all", 0.5, batch_norm=True, noise=0.1)]
    assert crossing(arms).labels == [["plain", "norm"], ["plain", "noise"]]


def test_an_arm_with_a_reference_of_its_own_is_left_out():
    classic = dataclasses.replace(arm("classic", 0.5, classic=True), reference="intended")
    away = dataclasses.replace(arm("without 1", 0.25), reference="intended")
    assert crossing([*TWO, classic, away]).labels == [["none", "intended"], ["none", "decay"]]


def test_a_sweep_beside_a_factorial_is_left_out():
    found = crossing([*TWO, arm("quarter", 0.25), arm("half", 0.125)])
    assert found.labels == [["none", "intended"], ["none", "decay"]]


@pytest.mark.parametrize("arms", [
    TWO[:3], TWO[:2], TWO[:1], [TWO[0], TWO[2]], [*TWO, arm("third", 0.0, noise=0.1)],
    [TWO[0], TWO[3]], [arm("none", 0.0), arm("a", 0.1), arm("b", 0.2)],
])
def test_arms_that_do_not_cross_have_no_effects(arms):
    assert crossing(arms) is None
    assert effects(study(arms, noise)) == []
    assert study(arms, noise).effects().empty


def test_the_table_of_a_result_has_them():
    table = study(TWO, noise).effects()
    assert list(table.index) == ["intended", "decay", "intended x decay"]
    assert list(table.columns) == ["difference", "low", "high", "p_holm", "verdict"]
