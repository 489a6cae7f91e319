"""Every branch of the verdict, its sentences word for word, and every caution."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dropkit.core.errors import InputError
from dropkit.study.cautions import cautions
from dropkit.study.contrasts import contrasts
from dropkit.study.result import (
    HELPS,
    HURTS,
    INCONCLUSIVE,
    LEANING,
    SAME,
    Arm,
    Run,
    SiteRate,
    Summary,
)
from dropkit.study.statistics import holm, paired_t, seeds_to_settle, sign_flip
from dropkit.study.verdict import judge

SUMMARY = Summary(
    name="digits", task="classification", metric="accuracy", higher_is_better=True, unit="points", margin=0.005, epochs=40,
    batch_size=64, optimizer="adam", loss="cross_entropy", n_train=1079, n_val=359, n_test=359, n_features=[64],
    n_outputs=10, model="mlp", n_parameters=1000, data="digits", data_hash="", experiment_hash="")
RMSE = replace(SUMMARY, task="regression", metric="rmse", higher_is_better=False, unit="", margin=0.1)


def arm(name, *rates, kind="Dropout"):
    return Arm(name, "", [SiteRate(str(3 * index + 1), kind, p) for index, p in enumerate(rates)])


ARMS = [arm("none", 0.0, 0.0), arm("reduced", 0.125, 0.25), arm("intended", 0.25, 0.5)]


def spread(mean, sd, n=8):
    """Return ``n`` values of this mean and standard deviation, up to rounding."""
    raw = np.arange(n) - (n - 1) / 2
    return (mean + sd * raw / raw.std(ddof=1)).tolist()


def scores(base=0.9, **differences):
    """Return scores by arm and seed with the given differences from the arm ``none``, which scores ``base``."""
    n = len(next(iter(differences.values())))
    return {"none": dict.fromkeys(range(n), base),
            **{name: {seed: base + value for seed, value in enumerate(values)} for name, values in differences.items()}}


def verdict(summary=SUMMARY, arms=ARMS, **differences):
    found = contrasts(scores(**differences), "none", summary.higher_is_better, summary.margin)
    return judge(summary, [one for one in arms if one.name == "none" or one.name in differences], found)


HELPFUL, HARMFUL = spread(0.0082, 0.0049), spread(-0.0082, 0.0049)
OPEN, ALIKE = spread(0.002, 0.006), spread(0.0005, 0.002)


class TestContrasts:
    def test_fields_are_those_of_the_tests(self):
        reduced, intended = spread(0.004, 0.006), spread(0.006, 0.006)
        found = contrasts(scores(reduced=reduced, intended=intended), "none", True, 0.005)
        assert [(one.arm, one.reference) for one in found] == [("reduced", "none"), ("intended", "none")]
        corrected = holm([paired_t(one.differences).p for one in found])
        for one, values, p in zip(found, (reduced, intended), corrected, strict=True):
            known = paired_t(one.differences)
            assert one.differences == pytest.approx(values)
            assert (one.mean, one.sd, one.low, one.high, one.p_t) == \
                (known.mean, known.sd, known.low, known.high, known.p)
            assert one.p_holm == p
            assert one.p_sign_flip == sign_flip(one.differences)
            assert one.seeds == list(range(8))

    def test_lower_is_better_turns_the_sign(self):
        one, = contrasts({"none": {0: 5.0, 1: 6.0}, "a": {0: 4.0, 1: 4.0}}, "none", False, 0.1)
        assert one.differences == [1.0, 2.0]
        assert one.leaning == HELPS

    def test_pairs_by_seed_whatever_the_order(self):
        one, = contrasts({"a": {7: 0.5, 3: 0.25}, "none": {3: 0.125, 7: 0.5, 9: 0.75}}, "none", True, 0.1)
        assert one.seeds == [3, 7]
        assert one.differences == [0.125, 0.0]

    @pytest.mark.parametrize(("values", "kind"), [(HELPFUL, HELPS), (HARMFUL, HURTS), (OPEN, INCONCLUSIVE), (ALIKE, SAME)])
    def test_kinds(self, values, kind):
        one, = contrasts(scores(intended=values), "none", True, 0.005)
        assert one.kind == kind
        assert (one.seeds_to_settle is not None) == (kind == INCONCLUSIVE)

    @pytest.mark.parametrize("n", [1, 2, 3, 4])
    def test_under_five_seeds_is_a_leaning_however_clear(self, n):
        one, = contrasts(scores(intended=[0.05] * n), "none", True, 0.005)
        assert (one.kind, one.leaning, one.seeds_to_settle) == (LEANING, HELPS, None)
        assert (one.p_t is None) == (n == 1)

    def test_five_seeds_carry_a_verdict(self):
        one, = contrasts(scores(intended=spread(0.05, 0.001, 5)), "none", True, 0.005)
        assert one.kind == HELPS
        assert one.p_sign_flip is None

    def test_equivalence_comes_before_significance(self):
        one, = contrasts(scores(intended=spread(0.002, 0.0005)), "none", True, 0.005)
        assert one.p_holm < 0.05
        assert one.kind == SAME

    @given(st.floats(-0.01, 0.01), st.floats(1e-4, 0.01))
    def test_no_meaningful_difference_is_said_just_where_the_interval_lies_inside_the_margin(self, mean, sd):
        one, = contrasts(scores(intended=spread(mean, sd)), "none", True, 0.005)
        reach = max(abs(one.low), abs(one.high))
        assume(abs(reach - 0.005) > 1e-9)
        assert (one.kind == SAME) == (reach < 0.005)

    def test_holm_decides_not_the_single_test(self):
        border = spread(0.006, 0.0062)  # p of the t test between .025 and .05
        alone, = contrasts(scores(a=border), "none", True, 0.001)
        _, beside = contrasts(scores(b=spread(0.001, 0.02), a=border), "none", True, 0.001)
        assert 0.025 < alone.p_t < 0.05
        assert (alone.kind, beside.kind) == (HELPS, INCONCLUSIVE)
        # Both contrasts are open, so the seeds to settle reckon with a level of .05 / 2 and more seeds than there are.
        assert beside.seeds_to_settle == seeds_to_settle(beside.differences, 0.001, alpha=0.025, start=9)
        assert beside.seeds_to_settle > 8

    def test_leaning_ignores_rounding(self):
        one, = contrasts({"none": {0: 0.10, 1: 0.97}, "a": {0: 0.11, 1: 0.96}}, "none", True, 0.005)
        assert sum(one.differences) != 0.0  # 0.11 - 0.10 and 0.96 - 0.97 do not cancel
        assert one.leaning == "no difference"

    def test_refusals(self):
        with pytest.raises(InputError, match="one of the arms"):
            contrasts({"a": {0: 1.0}}, "none", True, 0.1)
        with pytest.raises(InputError, match="share a seed"):
            contrasts({"none": {0: 1.0}, "a": {1: 1.0}}, "none", True, 0.1)
        with pytest.raises(InputError, match="finite"):
            contrasts({"none": {0: 1.0}, "a": {0: math.nan}}, "none", True, 0.1)

    def test_no_other_arm_no_contrast(self):
        assert contrasts({"none": {0: 1.0}}, "none", True, 0.1) == []


class TestSentences:
    def test_helps(self):
        found = verdict(intended=HELPFUL)
        assert found.kind == HELPS
        assert found.sentence == ("Dropout helps: with the intended rates, test accuracy is 0.82 points higher than without "
                                  "(95 % interval 0.41 to 1.23, 8 paired seeds).")
        assert (found.arm, found.setting) == ("intended", 'dk.set_rate(model, {"1": 0.25, "4": 0.5})')
        assert found.next_step == "Keep the setting shown. No higher rates were tried; a study of them may find more."

    def test_hurts(self):
        found = verdict(intended=HARMFUL)
        assert found.kind == HURTS
        assert found.sentence == ("Dropout hurts: with the intended rates, test accuracy is 0.82 points lower than without "
                                  "(95 % interval 0.41 to 1.23, 8 paired seeds).")
        assert (found.arm, found.setting) == ("none", "dk.set_rate(model, 0.0)")
        assert found.next_step.startswith("Train without dropout.")

    def test_no_meaningful_difference(self):
        found = verdict(intended=ALIKE)
        assert found.kind == SAME
        assert found.sentence == ("No meaningful difference: with the intended rates, test accuracy is 0.05 points higher "
                                  "than without (95 % interval 0.12 lower to 0.22 higher, 8 paired seeds), "
                                  "within the margin of 0.5 points.")
        assert (found.arm, found.setting) == ("none", "dk.set_rate(model, 0.0)")
        assert found.next_step == ("Choose by cost or calibration instead of test accuracy. "
                                   "Train without dropout if neither matters.")

    def test_consistent_but_too_small(self):
        found = verdict(intended=spread(0.002, 0.0005))
        assert found.sentence.endswith("within the margin of 0.5 points; it is consistent, but too small to matter.")

    def test_all_alike(self):
        found = verdict(intended=[0.0] * 8)
        assert found.sentence == ("No meaningful difference: with the intended rates, test accuracy is the same as without "
                                  "(95 % interval 0.00 to 0.00, 8 paired seeds), within the margin of 0.5 points.")

    def test_inconclusive(self):
        found = verdict(intended=OPEN)
        n = seeds_to_settle(OPEN, 0.005, start=9)
        assert found.kind == INCONCLUSIVE
        assert found.sentence == ("Inconclusive: with the intended rates, test accuracy is 0.20 points higher than without "
                                  f"(95 % interval 0.30 lower to 0.70 higher, 8 paired seeds); about {n} seeds would settle "
                                  "it.")
        assert found.next_step.startswith(f"Run the same study with {n} seeds (--seeds {n}); finished runs are kept.")
        assert found.arm == "intended"  # the better mean, while the matter is open

    def test_inconclusive_leaning_to_hurts_keeps_the_reference(self):
        found = verdict(intended=spread(-0.002, 0.006))
        assert "0.20 points lower than without (95 % interval 0.30 higher to 0.70 lower, 8 paired seeds)" in found.sentence
        assert (found.kind, found.arm, found.setting) == (INCONCLUSIVE, "none", "dk.set_rate(model, 0.0)")

    def test_inconclusive_out_of_reach(self):
        found = verdict(summary=replace(SUMMARY, margin=0.0001), intended=spread(0.0001, 0.02))
        assert found.sentence.endswith("; more than 1000 seeds would be needed to settle it.")
        assert "seeds alone will not settle it" in found.next_step

    def test_inconclusive_after_the_correction(self):
        found = verdict(reduced=spread(0.001, 0.02), intended=spread(0.006, 0.0062))
        assert found.kind == INCONCLUSIVE
        assert "paired seeds), a difference that does not survive the correction for several arms; about" in found.sentence

    def test_leaning(self):
        found = verdict(intended=[0.001, 0.003, 0.005])
        assert found.kind == LEANING
        # mean .3 points, standard deviation .2, standard error .11547, t(.975, 2) = 4.3027: half width .4968.
        assert found.sentence == ("Cannot tell with 3 seeds: with the intended rates, test accuracy is 0.30 points higher "
                                  "than without (95 % interval 0.20 lower to 0.80 higher), leaning towards helps; "
                                  "a verdict needs at least 5.")
        assert found.next_step.startswith("Run the same study with 8 seeds (--seeds 8)")

    def test_leaning_with_one_seed_has_no_interval(self):
        found = verdict(intended=[-0.003])
        assert found.sentence == ("Cannot tell with 1 seed: with the intended rates, test accuracy is 0.30 points lower than "
                                  "without, leaning towards hurts; a verdict needs at least 5.")
        assert found.arm == "none"

    def test_level_means_are_not_told_apart(self):
        for alike in ([0.0], [0.1, -0.1], [0.1, -0.1] * 4):
            assert verdict(intended=alike).next_step.endswith("The means are level: if a choice is due now, choose by cost.")

    def test_leaning_neither_way(self):
        assert verdict(intended=[0.0]).sentence == (
            "Cannot tell with 1 seed: with the intended rates, test accuracy is the same as without, "
            "leaning neither way; a verdict needs at least 5.")

    @pytest.mark.parametrize(("mean", "sentence"), [
        (-1.2, "Dropout helps: with the intended rates, test rmse is 1.2 lower than without (95 % interval "),
        (1.234, "Dropout hurts: with the intended rates, test rmse is 1.23 higher than without (95 % interval ")])
    def test_lower_is_better(self, mean, sentence):
        compared = contrasts(scores(10.0, intended=spread(mean, 0.3)), "none", False, 0.1)
        found = judge(RMSE, [ARMS[0], ARMS[2]], compared)
        assert found.sentence.startswith(sentence)
        low, high = abs(mean) - 0.2508, abs(mean) + 0.2508  # t(.975, 7) 0.3 / sqrt(8) = 2.3646 * .10607
        assert f"(95 % interval {low:.3g} to {high:.3g}, 8 paired seeds)" in found.sentence

    @pytest.mark.parametrize(("mean", "words"), [(-0.2, "0.2 lower than without (95 % interval 0.302 higher to 0.702 lower,"),
                                                 (0.2, "0.2 higher than without (95 % interval 0.302 lower to 0.702 higher,")])
    def test_both_ways_where_lower_is_better(self, mean, words):
        found = judge(RMSE, [ARMS[0], ARMS[2]], contrasts(scores(10.0, intended=spread(mean, 0.6)), "none", False, 0.1))
        assert words in found.sentence  # t(.975, 7) 0.6 / sqrt(8) = 0.5016

    def test_margin_in_the_metrics_unit(self):
        found = judge(RMSE, [ARMS[0], ARMS[2]], contrasts(scores(10.0, intended=spread(0.01, 0.02)), "none", False, 0.1))
        assert found.sentence.endswith("within the margin of 0.1.")

    @pytest.mark.parametrize(("value", "text"), [(1234.5, "1230"), (0.00012345, "0.000123"), (12.0, "12")])
    def test_three_significant_digits(self, value, text):
        wide = replace(RMSE, margin=1e-9)
        found = judge(wide, [ARMS[0], ARMS[2]], contrasts(scores(0.0, intended=[-value] * 5), "none", False, 1e-9))
        assert f"test rmse is {text} lower than without (95 % interval {text} to {text}, 5 paired seeds)" in found.sentence

    def test_tiny_differences_do_not_read_as_zero(self):
        found = verdict(intended=[0.00002] * 5)
        assert "0.002 points higher" in found.sentence


class TestHeadline:
    def test_another_arm_helps_and_the_intended_hurts(self):
        found = verdict(reduced=HELPFUL, intended=HARMFUL)
        assert found.sentence == ("Dropout helps, but not at the intended rates: with the reduced rates, test accuracy is "
                                  "0.82 points higher than without (95 % interval 0.41 to 1.23, 8 paired seeds); "
                                  "the intended rates hurt.")
        assert (found.kind, found.arm) == (HELPS, "reduced")
        assert found.setting == 'dk.set_rate(model, {"1": 0.125, "4": 0.25})'
        assert "instead of the intended ones" in found.next_step
        assert "fresh seeds" in found.next_step

    @pytest.mark.parametrize(("values", "words"), [
        (OPEN, "; the intended rates stay inconclusive."), (ALIKE, "; the intended rates make no difference.")])
    def test_another_arm_helps_and_the_intended_does_not(self, values, words):
        found = verdict(reduced=HELPFUL, intended=values)
        assert found.arm == "reduced"
        assert found.sentence.endswith(words)

    def test_another_arm_hurting_does_not_take_over(self):
        found = verdict(reduced=HARMFUL, intended=OPEN)
        assert found.kind == INCONCLUSIVE
        assert "with the intended rates" in found.sentence

    def test_both_help_the_larger_mean_wins(self):
        found = verdict(reduced=spread(0.010, 0.004), intended=spread(0.030, 0.004))
        assert found.arm == "intended"
        assert "reduced" not in found.sentence

    def test_both_help_and_are_close(self):
        found = verdict(reduced=spread(0.029, 0.004), intended=spread(0.030, 0.004))
        assert found.arm == "intended"
        assert found.sentence.endswith("8 paired seeds); the reduced rates help nearly as much (2.90 points).")

    def test_both_help_and_the_reduced_rates_help_more(self):
        found = verdict(reduced=spread(0.030, 0.004), intended=spread(0.010, 0.004))
        assert found.arm == "reduced"
        assert found.sentence.startswith("Dropout helps: with the reduced rates,")
        assert found.sentence.endswith("; the intended rates help less (1.00 points).")

    def test_close_second_is_the_intended_arm(self):
        found = verdict(reduced=spread(0.030, 0.004), intended=spread(0.029, 0.004))
        assert found.sentence.endswith("; the intended rates help nearly as much (2.90 points).")

    def test_a_tie_goes_to_the_intended_arm(self):
        assert verdict(reduced=HELPFUL, intended=HELPFUL).arm == "intended"

    def test_the_last_arm_is_the_intended_one_wherever_the_reference_stands(self):
        arms = [arm("p=0.1", 0.1), arm("p=0.3", 0.3), arm("none", 0.0)]
        values = scores(**{"p=0.1": OPEN, "p=0.3": HARMFUL})
        found = judge(SUMMARY, arms, contrasts(values, "none", True, 0.005))
        assert found.sentence.startswith("Dropout hurts: with arm 'p=0.3', test accuracy is 0.82 points lower than without")

    def test_other_names(self):
        arms = [arm("none", 0.0), arm("small", 0.1), arm("large", 0.5)]
        found = verdict(arms=arms, small=HELPFUL, large=HARMFUL)
        assert found.sentence.startswith("Dropout helps: with arm 'small', test accuracy is")
        assert found.sentence.endswith("; arm 'large' hurts.")
        assert "instead of those of arm 'large'" in found.next_step
        assert found.setting == "dk.set_rate(model, 0.1)"

    def test_reference_with_dropout_is_not_called_without(self):
        arms = [arm("usual", 0.5), arm("half", 0.25)]
        values = {"usual": dict.fromkeys(range(8), 0.9), "half": {s: 0.9 + d for s, d in enumerate(HARMFUL)}}
        found = judge(SUMMARY, arms, contrasts(values, "usual", True, 0.005))
        assert found.sentence.startswith(
            "Arm 'half' hurts: with arm 'half', test accuracy is 0.82 points lower than with arm 'usual' (")
        assert (found.arm, found.setting) == ("usual", "dk.set_rate(model, 0.5)")
        assert found.next_step == "Stay with arm 'usual'."

    def test_an_arm_without_dropout_is_not_called_dropout(self):
        found = verdict(arms=[arm("none", 0.0), arm("decay", 0.0)], decay=HELPFUL)
        assert found.sentence.startswith("Arm 'decay' helps: with arm 'decay', test accuracy")
        assert found.next_step == "Keep the setting shown."

    def test_nothing_to_compare(self):
        with pytest.raises(InputError, match="needs contrasts"):
            judge(SUMMARY, ARMS, [])
        with pytest.raises(InputError, match="needs contrasts"):
            judge(SUMMARY, ARMS[:1], contrasts(scores(intended=OPEN), "none", True, 0.005))


class TestSetting:
    def test_builder_arguments(self):
        arms = [Arm("none", "", [SiteRate("p", "argument", 0.0), SiteRate("attn", "argument", 0.0)]),
                Arm("intended", "", [SiteRate("p", "argument", 0.25), SiteRate("attn", "argument", 0.1)])]
        assert verdict(arms=arms, intended=HELPFUL).setting == "build(p=0.25, attn=0.1)"
        assert verdict(arms=arms, intended=HARMFUL).setting == "build(p=0.0, attn=0.0)"

    def test_arms_and_modules(self):
        arms = [arm("none", 0.0), Arm("intended", "", [SiteRate("p", "argument", 0.25), SiteRate("1", "Dropout", 0.5)])]
        assert verdict(arms=arms, intended=HELPFUL).setting == "build(p=0.25); dk.set_rate(model, 0.5)"

    def test_no_sites(self):
        arms = [Arm("none", "", []), Arm("intended", "", [])]
        assert verdict(arms=arms, intended=HELPFUL).setting == "# arm 'intended' sets no dropout rate"

    def test_pastes_as_python(self):
        names = ['block."quoted"', "couche.é", "back\\slash"]
        arms = [arm("none", 0.0), Arm("intended", "", [SiteRate(n, "Dropout", p / 10) for p, n in enumerate(names, 1)])]
        code = verdict(arms=arms, intended=HELPFUL).setting
        rates = eval(code.removeprefix("dk.set_rate(model, ").removesuffix(")"))
        assert rates == {names[0]: 0.1, names[1]: 0.2, names[2]: 0.3}


def run(arm="intended", seed=0, metric=0.9, status="finished", val_loss=(0.5,) * 40):
    return Run(arm=arm, seed=seed, status=status, train_loss=0.1, train_metric=0.9, train_eval_loss=0.1,
               train_eval_metric=0.9, val_loss=val_loss[-1] if val_loss else None, val_metric=0.9, test_loss=0.3,
               test_metric=metric, gap=0.0, nll=0.3, brier=0.1, ece=0.01, reliability=None,
               history={"val_loss": list(val_loss)})


def warned(runs=(), differences=None, seeds=8, summary=SUMMARY):
    found = [] if differences is None else contrasts(scores(intended=differences), "none", summary.higher_is_better,
                                                     summary.margin)
    return cautions(list(runs), found, list(range(seeds)), summary)


class TestCautions:
    def test_none_where_nothing_is_wrong(self):
        runs = [run(name, seed, metric) for name, metric in (("none", 0.9), ("intended", 0.91)) for seed in range(8)]
        assert warned(runs, HELPFUL) == []

    def test_few_seeds(self):
        said, = warned(seeds=4)
        assert said.startswith("Only 4 seeds: a verdict needs at least 5")
        assert warned(seeds=5) == []
        assert warned(seeds=1)[0].startswith("Only 1 seed:")

    def test_diverged(self):
        said, = warned([run(seed=seed, status="diverged" if seed in (2, 5) else "finished") for seed in range(8)])
        assert said.startswith("2 of 8 runs of arm 'intended' diverged (seeds 2, 5), scored as the best constant prediction")
        assert "learning rate" in said

    def test_tests_disagree(self):
        # Mean .057 / 8 and standard deviation .0173: t = 1.16, p = .28. All one sign: the sign flip gives 2 / 256.
        values = [0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.05]
        found, = contrasts(scores(intended=values), "none", True, 0.005)
        assert found.p_sign_flip < 0.05 < found.p_t
        said = warned(differences=values)
        assert "the paired t test (p = 0.28) and the sign-flip test (p = 0.0078) fall on either side of 0.05" in said[0]
        assert not warned(differences=HELPFUL)

    def test_coarse_test_set(self):
        said, = warned(summary=replace(SUMMARY, n_test=100))
        assert said == ("One of the 100 test examples is worth 1.00 points, more than the margin of 0.5 points: hold out at "
                        "least 200 test examples, or widen the margin.")
        assert warned(summary=replace(SUMMARY, n_test=200)) == []
        assert warned(summary=replace(RMSE, n_test=5)) == []

    def test_margin_of_one_point(self):
        said, = warned(summary=replace(SUMMARY, n_test=50, margin=0.01))
        assert "the margin of 1 point: hold out at least 100" in said

    def test_ceiling(self):
        runs = [run(name, seed, 0.998) for name in ("none", "intended") for seed in range(8)]
        said, = warned(runs)
        assert said.startswith("Test accuracy is at its ceiling in every arm, within 0.5 points of 100 %")
        assert warned([*runs, *(run("reduced", seed, 0.99) for seed in range(8))]) == []
        errors = replace(SUMMARY, metric="error", higher_is_better=False)
        assert "of 0 %" in warned([run(metric=0.001)], summary=errors)[0]
        assert warned([run(metric=0.0)], summary=RMSE) == []

    def test_one_seed_carries_the_difference(self):
        said = warned(differences=[0.0, 0.001, 0.0, -0.001, 0.0, 0.03, 0.0, 0.0])
        assert said == ["For arm 'intended' most of the difference comes from seed 5: the mean is 0.38 points with it and "
                        "0.00 points without; look at that seed's curves, and add seeds."]

    def test_one_seed_against_the_others_is_no_carrier(self):
        assert warned(differences=[0.001, 0.001, 0.0012, 0.001, 0.001, -0.0008, 0.001, 0.001]) == []

    def test_under_five_seeds_speaks_of_seeds_only(self):
        said = warned(differences=[0.0, 0.03, 0.0], seeds=3)
        assert len(said) == 1
        assert said[0].startswith("Only 3 seeds")


@pytest.mark.slow
def test_false_helps_of_whole_studies():
    """Judged from scores to sentence, no effect yields "helps" at most 3 times in 100; see `test_statistics`."""
    rng = np.random.default_rng(30)
    kinds = []
    for _ in range(2000):
        values = {name: dict(enumerate(rng.normal(0.9, 0.01, 8).tolist())) for name in ("none", "reduced", "intended")}
        kinds.append(judge(SUMMARY, ARMS, contrasts(values, "none", True, 0.005)).kind)
    assert 0 < kinds.count(HELPS) <= 0.03 * len(kinds)
    assert LEANING not in kinds
