"""Scores against hand computation, scikit-learn and torchmetrics."""

import math

import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.classification import MulticlassCalibrationError

from dropkit.core.errors import InputError
from dropkit.study.result import Bin
from dropkit.study.scores import accuracy, brier, ece, nll, reliability, rmse


def sample(n=500, k=4, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=generator) * scale, torch.randint(k, (n,), generator=generator)


CASES = [sample(), sample(k=2, seed=1), sample(k=10, seed=2, scale=5.0), sample(n=1, seed=3), sample(k=3, seed=4, scale=0.01)]
NAN, INF = math.nan, math.inf


class TestAgainstLibraries:
    @pytest.mark.parametrize(("logits", "y"), CASES)
    def test_classification(self, logits, y):
        p, k = logits.double().softmax(1), logits.shape[1]
        assert accuracy(logits, y) == sk.accuracy_score(y, logits.argmax(1))
        assert nll(logits, y) == pytest.approx(sk.log_loss(y, p.clamp(1e-300, 1), labels=range(k)), rel=1e-6)
        one_hot = torch.nn.functional.one_hot(y, k)
        assert brier(logits, y) == pytest.approx(k * sk.mean_squared_error(one_hot, p), rel=1e-12)

    @pytest.mark.parametrize(("logits", "y"), CASES[:2])
    def test_binary_brier_is_twice_that_of_one_column(self, logits, y):
        if logits.shape[1] == 2:
            assert brier(logits, y) == pytest.approx(2 * sk.brier_score_loss(y, logits.double().softmax(1)[:, 1]))

    @pytest.mark.parametrize(("logits", "y"), CASES)
    @pytest.mark.parametrize("bins", [1, 10, 15])
    def test_calibration_error(self, logits, y, bins):
        known = MulticlassCalibrationError(num_classes=logits.shape[1], n_bins=bins, norm="l1")
        assert ece(reliability(logits, y, bins)) == pytest.approx(float(known(logits.softmax(1), y)), abs=2e-6)

    def test_regression(self):
        prediction, y = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(5))
        assert rmse(prediction, y) == pytest.approx(sk.mean_squared_error(y, prediction) ** 0.5, rel=1e-6)
        variance = torch.tensor([0.5, 1.0, 4.0])
        known = -torch.distributions.Normal(prediction, variance.sqrt()).log_prob(y).sum(1).mean()
        assert nll(prediction, y, variance) == pytest.approx(float(known), rel=1e-6)
        assert nll(prediction[:, 0], y[:, 0], 2.0) == pytest.approx(
            float(-torch.distributions.Normal(prediction[:, 0], 2**0.5).log_prob(y[:, 0]).mean()), rel=1e-6)


class TestByHand:
    def test_four_predictions(self):
        # Probabilities .9, .6, .8 and .5 + of the first class or the second; softmax of (log p, log (1 - p)) is (p, 1 - p).
        p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], dtype=torch.float64)
        y = torch.tensor([0, 1, 1, 1])
        assert accuracy(p.log(), y) == 0.5
        # -(log .9 + log .4 + log .8 + log .3) / 4
        assert nll(p.log(), y) == pytest.approx(-math.log(0.9 * 0.4 * 0.8 * 0.3) / 4)
        # Each row is twice the squared miss: 2 (.01 + .36 + .04 + .49) / 4.
        assert brier(p.log(), y) == pytest.approx(0.45)
        # Two bins: all confidences lie in (.5, 1], mean .75, accuracy .5.
        low, high = reliability(p.log(), y, bins=2)
        assert low == Bin(0.0, 0.5, 0, None, None)
        assert (high.low, high.high, high.count, high.accuracy) == (0.5, 1.0, 4, 0.5)
        assert high.confidence == pytest.approx(0.75)
        assert ece([low, high]) == pytest.approx(0.25)

    def test_bins_are_open_below_and_closed_above(self):
        half = reliability(torch.zeros(1, 2), torch.tensor([0]), bins=2)  # confidence exactly .5
        assert [bar.count for bar in half] == [1, 0]
        sure = reliability(torch.tensor([[1e4, 0.0]]), torch.tensor([0]), bins=15)  # confidence exactly 1
        assert [bar.count for bar in sure] == [0] * 14 + [1]
        assert [bar.low for bar in sure[1:]] == [bar.high for bar in sure[:-1]]
        assert (sure[0].low, sure[-1].high) == (0.0, 1.0)

    def test_counts_add_up(self):
        for logits, y in CASES:
            assert sum(bar.count for bar in reliability(logits, y)) == len(y)

    def test_perfect_and_worst(self):
        sure = torch.tensor([[200.0, 0.0], [0.0, 200.0]]).double()
        right, wrong = torch.tensor([0, 1]), torch.tensor([1, 0])
        assert (accuracy(sure, right), brier(sure, right), ece(reliability(sure, right))) == (1.0, pytest.approx(0), 0.0)
        assert (accuracy(sure, wrong), brier(sure, wrong), ece(reliability(sure, wrong))) == (0.0, pytest.approx(2), 1.0)

    def test_gaussian(self):
        # 0.5 log(2 pi 4) + (3 - 1)^2 / (2 * 4)
        assert nll(torch.tensor([1.0]), torch.tensor([3.0]), 4.0) == pytest.approx(0.5 * math.log(8 * math.pi) + 0.5)


class TestNotNumbers:
    @pytest.mark.parametrize("row", [[NAN, 0.0, 0.0], [0.0, NAN, 5.0], [INF, 0.0, 0.0], [-INF] * 3, [INF, -INF, NAN]])
    def test_count_as_wrong_and_sure(self, row):
        logits, y = torch.tensor([row, [5.0, 0.0, 0.0]]), torch.tensor([0, 0])
        assert accuracy(logits, y) == 0.5
        assert accuracy(logits[:1].expand(3, -1), torch.tensor([0, 1, 2])) == 0.0
        assert brier(logits[:1], y[:1]) == 2.0
        assert nll(logits, y) == INF
        last = reliability(logits[:1], y[:1])[-1]
        assert (last.count, last.confidence, last.accuracy) == (1, 1.0, 0.0)
        assert ece(reliability(logits[:1], y[:1])) == 1.0

    def test_a_masked_class_is_fine(self):
        logits, y = torch.tensor([[-INF, 1.0, 1.0]]), torch.tensor([1])
        assert accuracy(logits, y) == 1.0
        assert nll(logits, y) == pytest.approx(math.log(2))

    def test_errors_of_a_regression_stay_visible(self):
        y = torch.zeros(2, 1)
        assert math.isnan(rmse(torch.tensor([[NAN], [0.0]]), y))
        assert rmse(torch.tensor([[INF], [0.0]]), y) == INF
        assert math.isnan(nll(torch.tensor([[NAN], [0.0]]), y, 1.0))


class TestRefusals:
    @pytest.mark.parametrize("score", [accuracy, nll, brier, reliability])
    @pytest.mark.parametrize(("logits", "y", "rule"), [
        (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), "two outputs, not one"),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "logits are"),
        (torch.zeros(3, 2), torch.zeros(3), "whole numbers"),
        (torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64), "3 whole numbers"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), "3 whole numbers"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "at least one example"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), r"labels lie in \[0, 2\); got 0 to 2"),
        (torch.zeros(2, 2), torch.tensor([-1, 1]), "labels lie in")])
    def test_classification(self, score, logits, y, rule):
        with pytest.raises(InputError, match=rule):
            score(logits, y)

    def test_shapes_that_would_broadcast(self):
        with pytest.raises(InputError, match=r"one shape; got \(3,\) and \(3, 1\)"):
            rmse(torch.zeros(3), torch.zeros(3, 1))
        with pytest.raises(InputError, match="one shape"):
            nll(torch.zeros(3), torch.zeros(3, 1), 1.0)

    def test_others(self):
        with pytest.raises(InputError, match="at least one example"):
            rmse(torch.zeros(0, 1), torch.zeros(0, 1))
        for variance in (0.0, -1.0, NAN):
            with pytest.raises(InputError, match="variance is above 0"):
                nll(torch.zeros(3), torch.zeros(3), variance)
        with pytest.raises(InputError, match="at least one bin"):
            reliability(torch.zeros(1, 2), torch.tensor([0]), 0)
        with pytest.raises(InputError, match="needs predictions"):
            ece([Bin(0.0, 1.0, 0, None, None)])


def test_scores_do_not_depend_on_threads_or_order():
    logits, y = sample(n=100_000, k=10, seed=6)
    threads = torch.get_num_threads()
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(7))
    found = set()
    try:
        for n, order in ((1, slice(None)), (2, slice(None)), (3, mixed)):
            torch.set_num_threads(n)
            found.add((accuracy(logits[order], y[order]), nll(logits[order], y[order]), brier(logits[order], y[order]),
                       rmse(logits[order], torch.zeros_like(logits))))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1
