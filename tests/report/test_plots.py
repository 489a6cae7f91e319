"""Figures about predictions: what they draw is what was measured."""

import math

import pytest
import torch

import dropkit as dk


def drawn(seed=0, n=200):
    generator = torch.Generator().manual_seed(seed)
    uncertainty = torch.rand(n, generator=generator)
    return uncertainty, (torch.rand(n, generator=generator) < uncertainty).double()


def test_bins_of_the_error_hold_equally_many_examples_and_their_mean():
    u, e = drawn()
    (points,) = dk.plots.uncertainty_error(u, e, bins=4).data
    parts = u.argsort(stable=True).tensor_split(4)
    assert points.y == pytest.approx([float(e[part].mean()) for part in parts])
    assert points.x == pytest.approx([float(u[part].median()) for part in parts])
    assert points.error_y.array == pytest.approx([1.96 * float(e[part].std()) / math.sqrt(50) for part in parts])


def test_errors_that_are_numbers_show_as_points_too():
    u, _ = drawn()
    cloud, _ = dk.plots.uncertainty_error(u, u * 2, bins=4).data
    assert len(cloud.x) == 200
    assert dk.plots.uncertainty_error(u, u * 2).layout.title.text == "Spearman correlation 1.00"
    assert dk.plots.uncertainty_error(u, torch.ones(200)).layout.title.text == "Spearman correlation nan"


def test_the_reliability_diagram_is_that_of_the_scores():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    y = torch.tensor([0, 1, 1, 1])
    _, accuracies, shares = dk.plots.reliability(p, y, bins=2).data
    assert accuracies.x == pytest.approx((0.775,))
    assert accuracies.y == (0.75,)
    assert shares.y == (0, 1)
    found = dk.scores.calibration_error(p, y, bins=2)
    assert dk.plots.reliability(p, y, bins=2).layout.title.text == f"expected calibration error {100 * found:.1f} %"


def test_a_probability_of_exactly_0_or_1_is_drawn():
    _, accuracies, _ = dk.plots.reliability(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])).data
    assert (accuracies.x, accuracies.y) == ((1.0,), (0.5,))


def test_risk_coverage_compares_uncertainties_with_chance_and_the_ideal():
    u, e = drawn()
    good, worse, chance, ideal = dk.plots.risk_coverage({"good": u, "worse": -u}, e).data
    assert good.name == f"good: {dk.scores.risk_coverage(u, e).area:.3g}"
    assert worse.y[0] >= good.y[0]
    assert chance.y == pytest.approx([float(e.mean())] * 2)
    assert good.y[-1] == pytest.approx(float(e.mean()))
    assert all(best <= risk + 1e-6 for best, risk in zip(ideal.y, good.y, strict=True))
    assert {line.line.dash for line in (good, worse, chance, ideal)} == {"solid", "longdash", "dash", "dot"}


def test_long_curves_are_thinned_and_keep_their_ends():
    generator = torch.Generator().manual_seed(0)
    u, e = torch.rand(5000, generator=generator), torch.rand(5000, generator=generator)
    curve = dk.plots.risk_coverage(u, e).data[0]
    assert len(curve.x) == 400
    assert (curve.x[0], curve.x[-1]) == (0.0002, 1.0)


def test_histograms_of_both_kinds_share_their_bins_and_sum_to_one():
    inside, outside = torch.linspace(0, 1, 100), torch.linspace(0.5, 2, 50)
    figure = dk.plots.ood(inside, outside)
    assert [sum(bars.y) for bars in figure.data] == pytest.approx([1, 1])
    assert figure.data[0].x == figure.data[1].x
    assert f"AUROC {dk.scores.ood_auroc(inside, outside):.3f}" in figure.layout.title.text
    assert sum(dk.plots.ood([1.0], [1.0]).data[0].y) == 1


def test_the_coverage_of_a_calibrated_regression_lies_on_the_diagonal():
    n = 4000
    y = torch.randn(n, generator=torch.Generator().manual_seed(0))
    _, curve = dk.plots.interval_coverage(torch.zeros(n), torch.ones(n), y).data
    # 39 levels, each binomial with a deviation of at most 0.0079: 5 of them, false alarm below 39 * 6e-7
    assert max(abs(level - share) for level, share in zip(curve.x, curve.y, strict=True)) < 0.04


@pytest.mark.parametrize("call", [
    lambda: dk.plots.uncertainty_error([0.1], [0.1]), lambda: dk.plots.uncertainty_error([0.1, 0.2], [0.1]),
    lambda: dk.plots.uncertainty_error([0.1, math.nan], [0.1, 0.2]), lambda: dk.plots.uncertainty_error([1, 2], [1, 2], bins=0),
    lambda: dk.plots.reliability([[0.5, 0.6]], [0]), lambda: dk.plots.reliability([[0.5, 0.5]], [2]),
    lambda: dk.plots.risk_coverage({}, [1.0]), lambda: dk.plots.ood([], [1.0]),
    lambda: dk.plots.interval_coverage([0.0], [-1.0], [0.0]), lambda: dk.plots.uncertainty_error(None, None),
])
def test_wrong_input_is_refused(call):
    with pytest.raises(dk.InputError):
        call()
