"""Scores against values by hand, scikit-learn and torch's own distributions."""

import sys

import pytest
import torch
from sklearn import metrics

import dropkit as dk
from dropkit import scores

P = [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]
Y = [0, 2, 0, 1]


def random_predictions(n=300, k=4):
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(n, k, generator=generator, dtype=torch.float64).mul_(2).softmax(1)
    return p, torch.randint(k, (n,), generator=generator)


def test_likelihood_and_brier_by_hand_and_by_scikit_learn():
    p, y = random_predictions()
    assert scores.nll(P, Y) == pytest.approx(-float(torch.tensor([0.7, 0.4, 0.1, 0.3]).log().mean()), rel=1e-6)
    assert scores.brier(P, Y) == pytest.approx((0.14 + 0.54 + 1.46 + 0.86) / 4)
    assert scores.nll(p, y) == pytest.approx(metrics.log_loss(y, p))
    assert scores.brier(p, y) == pytest.approx(metrics.brier_score_loss(y, p, labels=range(4), scale_by_half=False))
    assert scores.nll([[1.0, 0.0]], [1]) == float("inf")


def test_calibration_errors_by_hand():
    top = abs(0.5 * (0.7 + 0.6) - 0.5) * 0.5 + abs(0.4 - 1) * 0.25 + abs(0.8 - 0) * 0.25  # bins [0,1/4] ... (3/4, 1]
    assert scores.calibration_error(P, Y, 4) == pytest.approx(top, rel=1e-6)
    halves = 0.5 * abs((0.4 + 0.6) / 2 - 0.5) + 0.5 * abs((0.7 + 0.8) / 2 - 0.5)  # two and two by confidence
    assert scores.calibration_error(P, Y, 2, kind="adaptive") == pytest.approx(halves)
    assert scores.calibration_error(P, Y, 1, kind="adaptive", norm="max") == pytest.approx(abs(2.5 / 4 - 0.5))
    each = [abs(1.7 / 4 - 0.5), abs(1.6 / 4 - 0.25), abs(0.7 / 4 - 0.25)]  # one bin a class
    assert scores.calibration_error(P, Y, 1, kind="classwise") == pytest.approx(sum(each) / 3, rel=1e-6)


def test_scores_of_other_distributions():
    generator = torch.Generator().manual_seed(1)
    inside = (torch.randn(200, generator=generator) * 3).round()  # with ties
    outside = (torch.randn(150, generator=generator) * 3 + 2).round()
    labels = [0] * 200 + [1] * 150
    assert scores.ood_auroc(inside, outside) == pytest.approx(metrics.roc_auc_score(labels, torch.cat((inside, outside))))
    assert scores.ood_auroc(outside * 1e6, inside * 1e6 - 5e6) < 0.5
    false, true, _ = metrics.roc_curve(labels, torch.cat((inside, outside)), drop_intermediate=False)
    assert scores.fpr_at_tpr(inside, outside) == pytest.approx(false[(true >= 0.95).argmax()])
    assert scores.fpr_at_tpr([0, 1], [2, 3]) == 0.0
    assert scores.fpr_at_tpr([0, 1, 2, 3], list(range(1, 21)), 0.95) == 0.5  # 19 of 20 are at 2 or above


def test_risk_and_coverage():
    found = scores.risk_coverage([0.3, 0.1, 0.2, 0.2], [1, 0, 1, 0])
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.risk.tolist() == pytest.approx([0, 0.25, 1 / 3, 0.5])
    assert found.area == pytest.approx((0.25 + 1 / 3 + 0.5) / 4)
    swapped = scores.risk_coverage([0.3, 0.1, 0.2, 0.2], [1, 0, 0, 1])
    assert torch.equal(found.risk, swapped.risk)


def test_intervals():
    y = torch.randn(40_000, generator=torch.Generator().manual_seed(2))
    found = scores.interval_coverage(torch.zeros(40_000), torch.ones(40_000), y, (0.5, 0.9))
    for level, share in found.items():  # 4.9 standard errors: one in a million
        assert abs(share - level) < 4.9 * (level * (1 - level) / 40_000) ** 0.5
    assert scores.interval_coverage([0.0], [0.0], [0.0]) == {0.5: 1.0, 0.8: 1.0, 0.9: 1.0, 0.95: 1.0}


@pytest.mark.parametrize("outputs", [(), (2,)])
def test_log_likelihood_is_that_of_the_mixture(outputs):
    generator = torch.Generator().manual_seed(3)
    samples = torch.randn(6, 5, *outputs, generator=generator, dtype=torch.float64)
    y, tau = torch.randn(5, *outputs, generator=generator, dtype=torch.float64), 3.7
    density = torch.distributions.Normal(samples, tau**-0.5).log_prob(y).exp()
    expected = (density.prod(-1) if outputs else density).mean(0).log().mean()
    assert scores.test_log_likelihood(samples, y, tau) == pytest.approx(float(expected))
    assert scores.test_log_likelihood(samples + 1e4, y, tau) < -1e7  # the logarithm of 0 it is not


@pytest.mark.parametrize(("call", "text"), [
    (lambda: scores.nll([[0.5, 0.6]], [0]), "sums to 1"), (lambda: scores.nll([[0.5, 0.5]], [2]), "labels lie"),
    (lambda: scores.nll([[0.5, 0.5]], [0.0]), "whole numbers"), (lambda: scores.brier([0.5], [0]), "K >= 2"),
    (lambda: scores.nll([[float("nan"), 0.5]], [0]), "finite"), (lambda: scores.calibration_error(P, Y, 0), "one bin"),
    (lambda: scores.calibration_error(P, Y, kind="x"), "kind"), (lambda: scores.ood_auroc([], [1.0]), "at least one"),
    (lambda: scores.fpr_at_tpr([0], [1], 0.0), "level"), (lambda: scores.risk_coverage([1, 2], [1]), "one loss"),
    (lambda: scores.interval_coverage([0.0], [-1.0], [0.0]), "deviation"),
    (lambda: scores.interval_coverage(torch.zeros(2, 1), torch.ones(2), torch.zeros(2)), "one shape"),
    (lambda: scores.interval_coverage([0.0], [1.0], [0.0], (1.0,)), "level"),
    (lambda: scores.interval_coverage([0.0], [1.0], [0.0], 0.9), "several probabilities"),
    (lambda: scores.interval_coverage([0.0], [1.0], [0.0], "0.9"), "level is a probability"),
    (lambda: scores.test_log_likelihood(torch.zeros(3, 2), torch.zeros(2, 1), 1.0), "passes first"),
    (lambda: scores.test_log_likelihood(torch.zeros(3, 2), torch.zeros(2), 0.0), "precision"),
    (lambda: scores.test_log_likelihood(torch.zeros(3, 2), torch.zeros(2), "a"), "precision"),
    (lambda: scores.nll("a", [0]), "probabilities holds numbers; got 'a'"), (lambda: scores.nll([[0.5, 0.5]], "a"), "y holds"),
    (lambda: scores.risk_coverage(None, None), "uncertainty holds numbers; got None"),
    (lambda: scores.fpr_at_tpr([0], [1], "a"), "level")])
def test_bad_input_is_told(call, text):
    with pytest.raises(dk.InputError, match=text):
        call()


def test_a_missing_torchmetrics_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(dk.MissingExtraError, match="torchmetrics"):
        scores.ood_auroc([0.0], [1.0])
    assert scores.calibration_error(P, Y, kind="adaptive") >= 0
