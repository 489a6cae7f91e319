"""Hand-computed cases, agreement with scipy, and the error rates that the verdict rests on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dropkit.core.errors import InputError
from dropkit.study.statistics import equivalence, holm, paired_t, seeds_to_settle, sign_flip

FINITE = st.floats(-100, 100).map(lambda value: round(value, 3))


class TestPairedT:
    def test_hand_computed(self):
        # 1, 2, 3: mean 2; deviations -1, 0, 1, so variance 2 / 2 = 1; standard error 1 / sqrt(3); t(.975, 2) = 4.302653.
        found = paired_t([1.0, 2.0, 3.0])
        assert (found.mean, found.sd) == (2.0, 1.0)
        assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
        assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
        # With 2 degrees of freedom P(|T| > t) = 1 - t / sqrt(2 + t^2); here t = 2 sqrt(3), so 1 - sqrt(12 / 14).
        assert found.p == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)

    @given(st.lists(FINITE, min_size=3, max_size=20).filter(lambda values: np.std(values) > 1e-3))
    def test_agrees_with_scipy(self, differences):
        found, known = paired_t(differences), stats.ttest_rel(differences, np.zeros(len(differences)))
        interval = known.confidence_interval(0.95)
        assert found.p == pytest.approx(known.pvalue, rel=1e-6, abs=1e-12)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-9)

    def test_other_confidence(self):
        values = [0.3, -0.1, 0.8, 0.4]
        known = stats.ttest_1samp(values, 0).confidence_interval(0.8)
        found = paired_t(values, confidence=0.8)
        assert (found.low, found.high) == pytest.approx((known.low, known.high))

    def test_one_difference_has_only_a_mean(self):
        found = paired_t([0.1])
        assert found.mean == 0.1
        assert (found.sd, found.low, found.high, found.p) == (None, None, None, None)

    @pytest.mark.parametrize("n", [2, 3, 7, 8])
    def test_alike_and_zero(self, n):
        found = paired_t([0.0] * n)
        assert (found.mean, found.sd, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 0.0, 1.0)

    @pytest.mark.parametrize("value", [0.1, -0.3, 1e-9])
    @pytest.mark.parametrize("n", [2, 3, 7, 8])
    def test_alike_and_not_zero(self, n, value):
        found = paired_t([value] * n)
        assert (found.mean, found.sd, found.low, found.high, found.p) == (value, 0.0, value, value, 0.0)

    def test_opposite_differences_cancel_exactly(self):
        found = paired_t([0.1, 0.2, 0.3, -0.3, -0.2, -0.1])
        assert found.mean == 0.0
        assert found.p == 1.0


class TestSignFlip:
    @pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
    def test_none_under_six(self, n):
        assert sign_flip([1.0] * n) is None

    def test_hand_computed(self):
        # All six positive: only the pattern seen and its mirror image are as extreme, 2 of 2**6.
        assert sign_flip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 2 / 64
        # Flipping the sign of the 1 alone gives the one more extreme sum, so 2 patterns on each side: 4 of 64.
        assert sign_flip([-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 4 / 64

    @given(st.lists(st.integers(-5, 5).map(float), min_size=6, max_size=9))
    def test_agrees_with_enumeration(self, differences):
        n = len(differences)
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        sums = signs @ np.asarray(differences)
        side = min((sums >= sum(differences)).mean(), (sums <= sum(differences)).mean())
        assert sign_flip(differences) == pytest.approx(min(1.0, 2 * side), abs=1e-12)

    def test_zeros_say_nothing(self):
        assert sign_flip([0.0] * 8) == 1.0

    def test_exact_up_to_sixteen(self):
        assert sign_flip([1.0] * 16) == 2 / 2**16

    def test_sampled_beyond_sixteen_is_repeatable_and_close(self):
        differences = np.random.default_rng(5).normal(0.4, 1, 20).tolist()
        before = np.random.get_state()[1].copy()
        first = sign_flip(differences)
        assert first == sign_flip(differences)
        assert (np.random.get_state()[1] == before).all()  # the caller's generator is left alone
        signs = 1 - 2 * ((np.arange(2**20)[:, None] >> np.arange(20)) & 1)
        exact = 2 * (signs @ np.asarray(differences) >= sum(differences) - 1e-12).mean()
        # Twice a share of 65,535 flips: 5 standard deviations, two-sided false alarm 6e-7 (and the seed is fixed).
        assert abs(first - exact) < 5 * 2 * math.sqrt(exact / 2 / 65_535) + 2 / 65_536


class TestHolm:
    def test_hand_computed(self):
        # Sorted .01, .02, .03, .04: times 4, 3, 2, 1 gives .04, .06, .06, .04; the running maximum lifts the last to .06.
        assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])

    def test_edges(self):
        assert holm([]) == []
        assert holm([0.3]) == [0.3]
        assert holm([0.9, 0.8]) == [1.0, 1.0]
        assert holm([0.0, 1.0]) == [0.0, 1.0]

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_order_and_bounds(self, p_values):
        found = holm(p_values)
        assert all(p <= q <= min(1.0, len(p_values) * p) or q == max(found) for p, q in zip(p_values, found, strict=True))
        for i, p in enumerate(p_values):
            assert found[i] >= p
            for j, other in enumerate(p_values):
                assert not (p < other and found[i] > found[j])

    @pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
    def test_refuses(self, bad):
        with pytest.raises(InputError, match=r"\[0, 1\]"):
            holm([0.5, bad])


class TestEquivalence:
    def test_hand_computed(self):
        # -.1, 0, .1: mean 0, variance .02 / 2, standard error .1 / sqrt(3). Against .5: t = 5 sqrt(3), t^2 = 75.
        # One-sided with 2 degrees of freedom: (1 - t / sqrt(2 + t^2)) / 2.
        assert equivalence([-0.1, 0.0, 0.1], 0.5) == pytest.approx((1 - math.sqrt(75 / 77)) / 2, abs=1e-12)

    @given(st.lists(FINITE, min_size=3, max_size=12).filter(lambda values: np.std(values) > 1e-3), st.floats(0, 50))
    def test_is_the_larger_of_two_one_sided_tests(self, differences, margin):
        above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        assert equivalence(differences, margin) == pytest.approx(max(above, below), rel=1e-6, abs=1e-12)

    def test_one_difference_says_nothing(self):
        assert equivalence([0.0], 1.0) is None

    @pytest.mark.parametrize(("value", "p"), [(0.0, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.5, 1.0), (-0.5, 1.0), (2.0, 1.0)])
    def test_alike(self, value, p):
        assert equivalence([value] * 5, 0.5) == p

    def test_no_margin_shows_nothing(self):
        assert equivalence([0.0] * 5, 0.0) == 1.0
        assert equivalence([-1.0, 0.0, 1.0], 0.0) == 0.5

    @pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
    def test_refuses_the_margin(self, margin):
        with pytest.raises(InputError, match="margin"):
            equivalence([0.0, 1.0], margin)


@pytest.mark.parametrize("function", [paired_t, sign_flip, lambda d: equivalence(d, 1.0), lambda d: seeds_to_settle(d, 1.0)])
@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_refuses_what_is_no_difference(function, bad):
    with pytest.raises(InputError, match="paired difference"):
        function(bad)


def test_refuses_other_ranges():
    for confidence in (0.0, 1.0, math.nan):
        with pytest.raises(InputError, match="confidence"):
            paired_t([1.0], confidence)
    with pytest.raises(InputError, match="power"):
        seeds_to_settle([1.0, 2.0], 1.0, power=1.0)
    with pytest.raises(InputError, match="alpha"):
        seeds_to_settle([1.0, 2.0], 1.0, alpha=0.0)
    with pytest.raises(InputError, match="2 seeds"):
        seeds_to_settle([1.0, 2.0], 1.0, start=1)


def spread(mean, sd, n=8):
    """Return ``n`` differences of exactly (up to rounding) this mean and standard deviation."""
    raw = np.arange(n) - (n - 1) / 2
    return (mean + sd * raw / raw.std(ddof=1)).tolist()


class TestSeedsToSettle:
    def test_textbook_sample_size(self):
        # Tables of sample sizes: a paired t test at 5 % has power .8 at half a standard deviation from 34 pairs on.
        assert seeds_to_settle(spread(0.5, 1.0), margin=0.001) == 34
        assert seeds_to_settle(spread(-0.5, 1.0), margin=0.001) == 34
        # And at one standard deviation from 10 pairs on.
        assert seeds_to_settle(spread(1.0, 1.0), margin=0.001) == 10

    def test_equivalence_settles_where_there_is_no_effect(self):
        # At no effect two one-sided 2.5 % tests both reject with power .8 if n is about ((1.960 + 1.282) sd / margin)^2 =
        # 10.5 for a margin of 1 sd with a known sd, and about two more with an estimated one.
        assert seeds_to_settle(spread(0.0, 1.0), margin=1.0) in (12, 13)

    def test_power_is_reached_in_simulation(self):
        n = seeds_to_settle(spread(0.7, 1.0), margin=0.001)
        rng = np.random.default_rng(11)
        p = np.array([stats.ttest_1samp(rng.normal(0.7, 1, n), 0).pvalue for _ in range(2000)])
        # Power lies in [.8, .8 + one seed's worth (.04)]; 4 binomial standard deviations of 2,000 studies are .036.
        assert 0.8 - 0.036 < (p < 0.05).mean() < 0.84 + 0.036

    def test_equivalence_power_is_reached_in_simulation(self):
        n = seeds_to_settle(spread(0.1, 1.0), margin=0.8)
        rng = np.random.default_rng(12)
        shown = [equivalence(rng.normal(0.1, 1, n).tolist(), 0.8) < 0.05 for _ in range(2000)]
        assert 0.8 - 0.036 < np.mean(shown) < 0.86 + 0.036

    def test_stricter_level_and_start(self):
        assert seeds_to_settle(spread(0.5, 1.0), 0.001, alpha=0.025) > 34
        assert seeds_to_settle(spread(0.5, 1.0), 0.001, start=50) == 50

    def test_out_of_reach(self):
        assert seeds_to_settle(spread(0.05, 1.0), margin=0.001) is None
        assert seeds_to_settle(spread(0.5, 1.0), margin=0.001, limit=33) is None
        assert seeds_to_settle(spread(0.5, 1.0), margin=0.001, start=20, limit=10) is None
        assert seeds_to_settle([1.0], margin=1.0) is None

    def test_no_spread(self):
        assert seeds_to_settle([0.0] * 5, margin=0.1) == 2
        assert seeds_to_settle([0.3] * 5, margin=0.1, start=6) == 6
        assert seeds_to_settle([0.0] * 5, margin=0.0) is None

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_does_not_depend_on_the_unit(self, scale):
        assert seeds_to_settle([scale * value for value in spread(0.4, 1.0)], 0.1 * scale) == \
            seeds_to_settle(spread(0.4, 1.0), 0.1)

    def test_huge_effect_is_settled_at_once(self):
        assert seeds_to_settle(spread(1000.0, 1.0), margin=1.0) == 2


class TestErrorRates:
    STUDIES, SEEDS = 2000, 8

    def test_false_helps_of_a_study(self):
        """At no effect, a study of two contrasts says "helps" of either at most 3 times in 100.

        Holm bounds the chance of any false rejection by 5 %, and symmetry gives half of it to "helps": 2.5 %. The bound of
        3 % on 2,000 studies leaves 1.4 binomial standard deviations above that (false alarm 7 % at most, were the seed not
        fixed); the contrasts share the reference, so the true rate lies below 2.5 %.
        """
        rng = np.random.default_rng(20)
        helps = 0
        for _ in range(self.STUDIES):
            none, reduced, intended = rng.normal(size=(3, self.SEEDS))
            found = [paired_t((arm - none).tolist()) for arm in (reduced, intended)]
            corrected = holm([one.p for one in found])
            helps += any(p < 0.05 and one.mean > 0 for p, one in zip(corrected, found, strict=True))
        assert helps <= 0.03 * self.STUDIES
        assert helps > 0  # a test that never rejects would pass as well

    def test_interval_covers(self):
        rng = np.random.default_rng(21)
        found = [paired_t((1 + rng.normal(size=self.SEEDS)).tolist()) for _ in range(self.STUDIES)]
        covered = np.mean([one.low <= 1 <= one.high for one in found])
        # Binomial with p = .95: 4 standard deviations are .0195; two-sided false alarm 6e-5.
        assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / self.STUDIES)

    def test_power_at_one_standard_deviation(self):
        """Eight seeds find an effect of one standard deviation at least 6 times in 10.

        The noncentral t distribution puts the power at .683; 4 binomial standard deviations of 2,000 studies are .042, so a
        correct test falls below .641 with probability 3e-5, and below .6 with less than 1e-14.
        """
        rng = np.random.default_rng(22)
        found = [paired_t((1 + rng.normal(size=self.SEEDS)).tolist()) for _ in range(self.STUDIES)]
        power = np.mean([one.p < 0.05 and one.mean > 0 for one in found])
        assert power >= 0.6
        freedom = self.SEEDS - 1
        known = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, math.sqrt(self.SEEDS))
        assert abs(power - known) < 4 * math.sqrt(known * (1 - known) / self.STUDIES)

    def test_false_equivalence(self):
        """At a true difference of exactly the margin, equivalence is claimed at most 5 times in 100.

        5 % plus 4 binomial standard deviations of 2,000 studies (.0195); false alarm 3e-5.
        """
        rng = np.random.default_rng(23)
        claims = [equivalence((0.5 + 0.2 * rng.normal(size=self.SEEDS)).tolist(), 0.5) < 0.05 for _ in range(self.STUDIES)]
        assert 0 < np.mean(claims) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / self.STUDIES)
