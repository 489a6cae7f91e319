"""What a prediction says, on numbers that can be worked out by hand."""

import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.inference.statistics import Classes, Moments


def classes(logits):
    """A prediction from the logits of its passes."""
    gathered = Classes(-1)
    for chunk in logits.split(2):
        gathered.add(chunk)
    return dk.MCPrediction(gathered.moments.mean, gathered.moments.variance(), tuple(range(len(logits))), "loop", "", (),
                           "classification", votes=gathered.votes, expected_entropy=gathered.expected_entropy)


def regression(mean, variance):
    return dk.MCPrediction(torch.tensor(mean), torch.tensor(variance), (0, 1), "loop", "", (), "regression")


def test_passes_that_contradict_each_other_are_epistemic_uncertainty():
    sure = torch.tensor([[[200.0, 0.0]], [[0.0, 200.0]], [[200.0, 0.0]], [[0.0, 200.0]]], dtype=torch.float64)
    found = classes(sure)
    torch.testing.assert_close(found.predictive_entropy, torch.tensor([math.log(2)], dtype=torch.float64))
    torch.testing.assert_close(found.mutual_information, found.predictive_entropy)
    assert found.variation_ratio == 0.5


def test_passes_that_agree_on_a_doubt_are_aleatoric_uncertainty():
    found = classes(torch.zeros(4, 1, 2))
    torch.testing.assert_close(found.expected_entropy, found.predictive_entropy)
    assert found.mutual_information == 0
    assert found.variation_ratio == 0
    assert (found.variance == 0).all()
    assert found.labels == 0


def test_intervals_widen_with_the_noise():
    found = regression([1.0], [4.0])
    low, high = found.interval(0.95)
    torch.testing.assert_close(high - low, torch.tensor([2 * 1.959964 * 2.0]))
    torch.testing.assert_close(found.predictive_variance(tau=0.2), torch.tensor([9.0]))
    for noise in (torch.tensor([5.0]), torch.tensor(5.0), 5):
        torch.testing.assert_close(found.predictive_variance(noise=noise), torch.tensor([9.0]))
    low, high = found.interval(0.5, tau=0.2)
    torch.testing.assert_close(high, torch.tensor([1 + 0.6744898 * 3.0]))


@pytest.mark.parametrize("what", ["predictive_entropy", "mutual_information", "variation_ratio", "labels"])
def test_regression_has_no_entropy(what):
    with pytest.raises(InputError, match=f"{what} belongs to classification"):
        getattr(regression([1.0], [4.0]), what)


def test_bad_questions_are_refused():
    with pytest.raises(InputError, match="level is a probability"):
        regression([1.0], [4.0]).interval(95)
    with pytest.raises(InputError, match="level is a probability"):
        regression([1.0], [4.0]).interval("a")
    for tau in (0, "a"):
        with pytest.raises(InputError, match="tau is a precision"):
            regression([1.0], [4.0]).predictive_variance(tau=tau)
    for noise, rule in (("a", "for each of the shape"), (torch.ones(3, 2), "for each of the shape"), (-1.0, "at least 0")):
        with pytest.raises(InputError, match=rule):
            regression([1.0], [4.0]).interval(noise=noise)
    with pytest.raises(InputError, match="belongs to regression"):
        classes(torch.zeros(2, 1, 2)).interval()


def test_merged_moments_are_exact_where_values_are_and_good_where_they_are_large():
    values = torch.arange(12.0).reshape(6, 2)
    moments = Moments()
    for chunk in values.split([1, 3, 2]):
        moments.add(chunk)
    assert torch.equal(moments.mean, values.double().mean(0))
    torch.testing.assert_close(moments.variance(), values.double().var(0), rtol=1e-14, atol=0)
    large, shifted = Moments(), values.double() + 1e9
    for chunk in shifted.split(2):
        large.add(chunk)
    torch.testing.assert_close(large.variance(), values.double().var(0), rtol=1e-12, atol=0)
    same = Moments()
    for _ in range(7):
        same.add(torch.full((3, 2), 0.1))
    assert (same.variance() == 0).all()


def test_classes_may_lie_in_another_dimension():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Dropout(0.3)), torch.randn(2, 3, 4, 4)
    found = dk.mc_predict(model, x, 5, task="classification", class_dim=1)
    assert found.mean.shape == (2, 5, 4, 4)
    assert found.predictive_entropy.shape == found.mutual_information.shape == found.labels.shape == (2, 4, 4)
    torch.testing.assert_close(found.mean.sum(1), torch.ones(2, 4, 4))
