import dataclasses

import numpy as np
import pytest

from dropkit.core.errors import InputError
from dropkit.report.compare import cautions, differences, render_comparison, study_names, write_comparison

from . import factory
from .test_page import Page, without_plotly


def shifted(result, by, **summary):
    runs = [dataclasses.replace(run, test_metric=run.test_metric + by) for run in result.runs]
    return dataclasses.replace(result, runs=runs, summary=dataclasses.replace(result.summary, **summary))


def test_runs_are_paired_by_seed_on_the_same_data():
    first = factory.classification()
    second = dataclasses.replace(shifted(first, 0.01, name="wider"), seeds=first.seeds[2:])
    second = dataclasses.replace(second, runs=[run for run in second.runs if run.seed in second.seeds])
    found = differences(first, second)
    assert [item.arm for item in found] == ["none", "reduced", "intended"]
    for item in found:
        assert item.seeds == first.seeds[2:]
        assert item.mean == pytest.approx(0.01)
        assert item.high - item.low < 1e-12  # pairing takes out all that the seeds share


def test_other_data_is_not_paired_and_said_to_be_other():
    first = factory.classification()
    second = shifted(first, 0.01, name="other", data_hash="0")
    found = differences(first, second)
    assert all(item.seeds == [] and item.low < 0.01 < item.high for item in found)
    assert "different data" in cautions(first, second, found)[0]


def test_lower_is_better_turns_the_difference():
    first = factory.regression()
    assert all(item.mean == pytest.approx(-0.5) for item in differences(first, shifted(first, 0.5)))


@pytest.mark.parametrize(("second", "said"), [
    (factory.regression(), "one metric"), (factory.classification(arms=["a", "b"]), "arm by arm")])
def test_studies_that_cannot_be_compared_are_refused(second, said):
    with pytest.raises(InputError, match=said):
        differences(factory.classification(), second)


def test_names_tell_the_studies_apart():
    first = factory.classification()
    named = dataclasses.replace(first, summary=dataclasses.replace(first.summary, name="other"))
    assert study_names(first, named) == ("digits", "other")
    assert study_names(dataclasses.replace(first, out="runs/a"), dataclasses.replace(first, out="runs/b")) == ("a", "b")
    assert study_names(first, first) == ("digits (1)", "digits (2)")


@pytest.mark.parametrize("make", [factory.classification, factory.single, factory.complete, factory.hostile])
def test_page_is_well_formed_and_names_both(make, tmp_path):
    first = make()
    second = shifted(first, -0.01, epochs=99)
    html = render_comparison(first, second, ("one <b>", "two"))
    found = Page(without_plotly(html))
    assert found.open == []
    assert "one <b>" in found.text
    assert "99" in found.text
    assert not found.all("b")
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert write_comparison(first, second, tmp_path / "deep" / "page.html").read_text(encoding="utf-8")


def test_difference_of_two_samples_is_welchs():
    from dropkit.study.statistics import welch

    rng = np.random.default_rng(0)
    one, two = rng.normal(1, 1, 7), rng.normal(0, 3, 12)
    parts = one.var(ddof=1) / 7, two.var(ddof=1) / 12
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 6 + parts[1] ** 2 / 11)
    from scipy import stats

    half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    found = welch(list(one), list(two))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    assert welch([1.0], [2.0, 3.0]).low is None
