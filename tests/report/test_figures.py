import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropkit.report import calibration, curves, figures, instruments, look, rates
from dropkit.report.numbers import Scale, known, number
from dropkit.study.effects import effects
from dropkit.study.result import Bin

from . import factory

STUDIES = [factory.classification, factory.regression, factory.diverged, factory.single, factory.many, factory.complete,
           factory.factorial, factory.hostile]


def every_figure(result):
    yield figures.paired(result)
    yield figures.forest(result)
    yield figures.gap(result)
    for measure in ("loss", "metric"):
        yield curves.validation(result, measure)
        for arm in result.arms:
            yield curves.learning(result, arm.name, measure)
    for arm in result.arms:
        if calibration.has_reliability(result, arm.name):
            yield calibration.reliability(result, arm.name)
    arms = list(range(len(result.arms)))
    yield from (instruments.over_training(result, name, arms) for name in instruments.scalars(result))
    yield from (instruments.across_layers(result, name, arms) for name in instruments.by_layer(result))
    if rates.sweep(result):
        yield rates.rate_curve(result)
    if rates.kept(result):
        yield rates.worth(result)
    if effects(result):
        yield figures.effects(result, effects(result))


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


@pytest.mark.parametrize("study", STUDIES)
def test_every_figure_holds_finite_numbers_inside_a_rising_range(study):
    for figure in every_figure(study()):
        assert len(figure.data) > 0
        for trace in figure.data:
            assert all(value is None or math.isfinite(value) for value in (*trace.x, *trace.y))
        for axis in (figure.layout.xaxis, figure.layout.yaxis):
            assert axis.range is None or axis.range[0] != axis.range[1]
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("study", STUDIES)
def test_figures_are_the_same_for_the_same_result(study):
    assert [a.to_json() for a in every_figure(study())] == [b.to_json() for b in every_figure(study())]


def test_paired_draws_each_seed_and_the_means():
    result = factory.classification()
    figure = figures.paired(result)
    lines = figure.data[0]
    first = [run.test_metric * 100 for arm in result.arms for run in result.of_arm(arm.name) if run.seed == 0]
    assert list(lines.x[:4]) == [0, 1, 2, None]
    np.testing.assert_allclose(lines.y[:3], first, rtol=1e-5)
    assert lines.y[3] is None
    for bar, arm in zip(named(figure, "mean"), result.arms, strict=True):
        expected = np.mean([run.test_metric for run in result.of_arm(arm.name)]) * 100
        np.testing.assert_allclose(bar.y, [expected] * 2, rtol=1e-5)


def test_paired_lies_down_when_names_no_longer_fit():
    result = factory.many()
    figure = figures.paired(result)
    bars = named(figure, "mean")
    expected = [np.mean([run.test_metric for run in result.of_arm(arm.name)]) * 100 for arm in result.arms]
    np.testing.assert_allclose([bar.x[0] for bar in bars], expected, rtol=1e-5)
    assert [note.y for note in figure.layout.annotations] == list(range(10))
    assert len({note.text for note in figure.layout.annotations}) == 10


def test_a_name_that_cannot_be_broken_lies_down_rather_than_be_cut_in_a_word():
    result = factory.classification()
    last = result.arms[-1].name
    assert last in figures.paired(result).layout.xaxis.ticktext[-1]
    arms = [*result.arms[:-1], dataclasses.replace(result.arms[-1], name="x" * 14)]
    runs = [dataclasses.replace(run, arm="x" * 14) if run.arm == last else run for run in result.runs]
    figure = figures.paired(dataclasses.replace(result, arms=arms, runs=runs))
    assert any("x" * 14 in note.text for note in figure.layout.annotations)
    assert figure.layout.xaxis.ticktext is None


@given(st.text("ab =-_,.", min_size=1, max_size=40), st.integers(1, 12))
def test_wrapped_breaks_between_parts_alone(text, width):
    """All letters and marks are kept, no line is wider than asked for, and a part that is leads to None."""
    made = look.wrapped(text, width)
    longest = max(len(part) for part in re.findall(r"[ab.]*[=_,-]?", text))
    assert (made is None) == (longest > width)
    if made is not None and text.strip():
        lines = made.split("<br>")
        assert all(len(line) <= width for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_paired_hollows_diverged_runs():
    points = figures.paired(factory.diverged()).data[3]
    assert list(points.marker.symbol) == ["square", "square-open", "square", "square", "square-open", "square"]
    assert points.text[1] == "seed 1: 10.00 % (diverged)"


def test_forest_draws_interval_margin_and_zero():
    result = factory.classification()
    figure = figures.forest(result)
    for mean, contrast in zip(named(figure, "mean"), result.contrasts, strict=True):
        assert mean.x[0] == pytest.approx(contrast.mean * 100, rel=1e-5)
        assert mean.x[0] + mean.error_x.array[0] == pytest.approx(contrast.high * 100, rel=1e-5)
        assert mean.x[0] - mean.error_x.arrayminus[0] == pytest.approx(contrast.low * 100, rel=1e-5)
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    zeros = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert [(band.x0, band.x1) for band in bands] == [(-0.5, 0.5)] * 2
    assert [(zero.x0, zero.x1) for zero in zeros] == [(0, 0)] * 2
    low, high = figure.layout.xaxis.range
    assert low < -0.5
    assert high > max(max(contrast.high, *contrast.differences) for contrast in result.contrasts) * 100


def test_forest_without_an_interval_has_no_bar():
    mean = named(figures.forest(factory.single()), "mean")[0]
    assert mean.error_x.array is None


def test_gap_leaves_out_what_is_unknown():
    figure = figures.gap(factory.diverged())
    assert [len(trace.x) for trace in named(figure, "seeds")] == [6, 4]
    assert figure.layout.annotations[2].text.endswith("–")


def test_an_arm_has_one_colour_and_marker_everywhere():
    result = factory.classification()
    for index, arm in enumerate(result.arms):
        drawn = [curves.learning(result, arm.name, "loss").data[-1], calibration.reliability(result, arm.name).data[1],
                 named(figures.gap(result), "mean")[index]]
        assert {trace.marker.symbol for trace in drawn} == {look.marker(index)}
        assert {trace.marker.color or trace.line.color for trace in drawn} == {look.colour(index)}
    assert len({(look.colour(index), look.marker(index)) for index in range(42)}) == 42


def test_bundle_is_the_mean_and_spread_over_finished_runs():
    result = factory.diverged()
    curve = curves.bundle(result, "intended", "val", "loss")
    kept = np.array([run.history["val_loss"] for run in result.of_arm("intended") if run.status == "finished"])
    assert kept.shape == (4, 40)
    np.testing.assert_allclose(curve.middle(), kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(curve.spread(), kept.std(0, ddof=1), rtol=1e-3)
    assert len(curve.diverged) == 2


def test_a_diverged_run_ends_in_a_cross_and_does_not_stretch_the_axis():
    result = factory.diverged()
    figure = curves.validation(result, "loss")
    crosses = named(figure, "diverged")
    assert [len(trace.x) for trace in crosses] == [2, 6]
    assert all(epoch == 9 for trace in crosses for epoch in trace.x)
    top = figure.layout.yaxis.range[1]
    assert top < 2
    assert all(value <= top for trace in crosses for value in trace.y)


def test_the_axis_holds_the_whole_band():
    result = factory.regression()
    curve = curves.bundle(result, "none", "val", "metric")
    low, high = curves.validation(result, "metric").layout.yaxis.range
    start = curves.skipped(curve.epochs)
    assert start == 6
    for middle, spread in list(zip(curve.middle(), curve.spread(), strict=True))[start:]:
        assert low < middle - spread < middle + spread < high


def test_training_mode_and_evaluation_mode_differ_in_dash():
    figure = curves.learning(factory.classification(), "intended", "loss")
    dashes = {trace.name: trace.line.dash for trace in figure.data if trace.name in curves.KINDS.values()}
    assert dashes == {curves.KINDS["train"]: "dot", curves.KINDS["train_eval"]: "dash", curves.KINDS["val"]: "solid"}


def test_arms_share_the_vertical_axis():
    result = factory.classification()
    assert len({curves.learning(result, arm.name, "loss").layout.yaxis.range for arm in result.arms}) == 1


def test_long_histories_are_thinned_to_the_last_epoch():
    result = factory.classification(seeds=8, epochs=1200)
    drawn = curves.epochs_drawn(result)
    assert drawn[-1] == 1200
    assert len(set(np.diff(drawn))) == 1
    assert len(result.runs) * len(drawn) * 8 <= curves.POINTS
    assert curves.epochs_drawn(factory.classification(seeds=1, epochs=3)) == [1, 2, 3]


def test_a_result_without_history_draws_nothing_and_does_not_fail():
    result = factory.single()
    bare = dataclasses.replace(result, runs=[dataclasses.replace(run, history={}) for run in result.runs])
    assert curves.epochs_drawn(bare) == []
    assert known(value for trace in curves.validation(bare, "loss").data for value in trace.y) == []


bins = st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.lists(bins, min_size=1, max_size=5))
def test_pooling_keeps_the_counts_and_the_overall_means(runs):
    run = factory.single().runs[0]
    made = [dataclasses.replace(run, reliability=[
        Bin(place / 3, (place + 1) / 3, count, *((confidence, accuracy) if count else (None, None)))
        for place, (count, confidence, accuracy) in enumerate(row)]) for row in runs]
    pooled = calibration.pooled(made)
    assert [bar.count for bar in pooled] == [sum(row[place][0] for row in runs) for place in range(3)]
    for place, bar in enumerate(pooled):
        right = sum(row[place][0] * row[place][2] for row in runs)
        assert (bar.accuracy or 0.0) * bar.count == pytest.approx(right, abs=1e-9, rel=1e-9)


def test_reliability_skips_empty_bins_and_counts_all():
    result = factory.classification()
    figure = calibration.reliability(result, "none")
    filled = [bar for bar in calibration.pooled(result.of_arm("none")) if bar.count]
    assert len(figure.data[1].x) == len(filled)
    assert sum(figure.data[2].y) == pytest.approx(1.0, abs=1e-4)


def test_user_text_reaches_plotly_escaped():
    result = factory.hostile()
    for figure in every_figure(result):
        text = figure.to_json()
        assert "<script" not in text
        assert "<img" not in text
        assert "<b>50" not in text
        assert "%{x}" not in text


@given(st.text(max_size=80))
def test_label_leaves_nothing_that_plotly_reads(text):
    made = look.label(text)
    assert not set(made) & set("<>%\n\r\t")


def test_short_names_stay_apart_and_short():
    names = [arm.name for arm in factory.many().arms]
    short = look.short_names(names)
    assert len(set(short)) == len(names)
    assert all(len(name) <= look.LABEL_LENGTH for name in short)
    assert short[:2] == ["none", "intended"]
    assert ".3." in short[5]
    same = look.short_names(["x" * 60, "x" * 60])
    assert same[0].endswith("(1)")
    assert same[1].endswith("(2)")


def test_margin_sets_the_decimals_of_a_plain_metric():
    scale = Scale.of(factory.regression().summary)
    assert (scale.value(5.4561), scale.difference(-0.0271)) == ("5.46", "−0.03")
    zero = Scale.of(dataclasses.replace(factory.regression().summary, margin=0.0))
    assert zero.value(5.4561) == "5.456"
    assert scale.value(3e30) == number(3e30) == "3.000e+30"


def test_differences_of_zero_have_no_sign():
    scale = Scale("accuracy", share=True, higher_is_better=True)
    assert [scale.difference(value) for value in (0.0, -1e-9, 1e-9)] == ["0.00 pp"] * 3
