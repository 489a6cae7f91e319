import dataclasses

import numpy as np
import pytest

from dropkit.report import instruments, rates
from dropkit.report.page import render
from dropkit.study.recipe import Recipe
from dropkit.study.result import SiteRate

from . import factory


@pytest.fixture(scope="module")
def complete():
    return factory.complete()


def test_a_sweep_is_the_arms_on_one_line_by_rising_rate(complete):
    assert [(setting.rate, complete.arms[setting.index].name) for setting in rates.sweep(complete)] == [
        (0.0, "none"), (0.125, "quarter"), (0.25, "half"), (0.5, "intended")]


def test_a_sweep_of_unequal_rates_is_found_by_their_proportion(complete):
    scaled = [dataclasses.replace(arm, sites=[SiteRate("a", "Dropout", 0.1 * factor), SiteRate("b", "Dropout", 0.3 * factor)])
              for factor, arm in zip((0.0, 0.5, 1.0, 2.0), complete.arms, strict=False)]
    found = rates.sweep(dataclasses.replace(complete, arms=scaled))
    assert [setting.rate for setting in found] == pytest.approx([0.0, 0.1, 0.2, 0.4])


def test_an_arm_with_another_recipe_is_no_point_of_the_curve(complete):
    arms = [dataclasses.replace(arm, recipe=Recipe(weight_decay=0.1)) if arm.name == "half" else arm for arm in complete.arms]
    assert [setting.rate for setting in rates.sweep(dataclasses.replace(complete, arms=arms))] == [0.0, 0.125, 0.5]


def test_two_settings_make_no_curve():
    assert rates.sweep(factory.single()) == []


def test_curve_draws_each_mean_with_its_standard_error(complete):
    bar = rates.rate_curve(complete).data[1]
    scores = np.array([run.test_metric * 100 for run in complete.of_arm("half")])
    assert bar.x[2] == 0.25
    assert bar.y[2] == pytest.approx(scores.mean(), rel=1e-5)
    assert bar.error_y.array[2] == pytest.approx(scores.std(ddof=1) / 5**0.5, rel=1e-5)


def test_a_site_is_worth_what_taking_it_away_costs(complete):
    found = rates.kept(complete)
    assert [entry.name for entry in found] == ["layers.2", "layers.5"]
    figure = rates.worth(complete)
    for place, entry in enumerate(found):
        mean = figure.data[2 * place + 1]
        assert mean.x[0] == pytest.approx(-100 * entry.contrast.mean, rel=1e-4)
        assert mean.error_x.array[0] == pytest.approx(100 * (entry.contrast.mean - entry.contrast.low), rel=1e-4)


def test_arms_that_change_more_than_sites_to_zero_are_no_site_panel():
    assert rates.kept(factory.classification()) == []


def test_instruments_tell_numbers_of_a_network_from_numbers_of_layers(complete):
    assert instruments.scalars(complete) == ["mask_noise"]  # without a reading, or 0 throughout: left out
    assert instruments.by_layer(complete) == ["gradient_norm"]
    assert instruments.layers(complete, "gradient_norm") == ["0", "3", "6"]


def test_instruments_show_means_over_seeds(complete):
    line = instruments.over_training(complete, "mask_noise", [1]).data[0]
    expected = np.mean([run.instruments["mask_noise"] for run in complete.of_arm("quarter")], axis=0)
    np.testing.assert_allclose(line.y, expected, rtol=1e-5)
    assert list(line.x) == [1, 6, 12]
    dots = instruments.across_layers(complete, "gradient_norm", [1]).data[0]
    expected = np.mean([[run.instruments["gradient_norm"][layer][-1] for layer in ("0", "3", "6")]
                        for run in complete.of_arm("quarter")], axis=0)
    np.testing.assert_allclose(dots.x, expected, rtol=1e-5)


def test_ablation_is_the_mean_over_layers_and_seeds(complete):
    line = instruments.ablations(complete, [1]).data[0]
    np.testing.assert_allclose(line.y, [0, *(0.001 * share * 3 for share in (25, 50, 75))], rtol=1e-5)
    assert list(line.x) == [0, 0.25, 0.5, 0.75]


def test_page_holds_diagnosis_rates_sites_instruments_cost_and_notes(complete):
    page = render(complete)
    for part in ('id="rate-curve"', 'id="site-panel"', 'id="instruments"', 'id="diagnosis"', "Lower the rates.",
                 "<h3>Cost</h3>", "Two groups of 15 runs."):
        assert part in page
