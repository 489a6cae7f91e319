"""The tuning's section of the page."""

from dataclasses import replace

import pytest

from dropkit.report import tuning
from dropkit.report.blocks import sections
from dropkit.report.page import render
from dropkit.study.result import load_result
from dropkit.study.tuning.record import FINISHED, PRUNED, Group, Importance, Trial, Tuning

from .factory import classification as make_result

GROUPS = [Group(f"layer.{index}<b>", [f"s{index}"], "dropout", 0.5) for index in range(8)]


def tuned(groups=2):
    labels = [group.label for group in GROUPS[:groups]]
    trials = [Trial(index, dict.fromkeys(labels, rate), {0: 0.9}, 0.8 + 0.1 * rate, PRUNED if index == 2 else FINISHED, "sweep",
                    0, 1.0) for index, rate in enumerate((0.0, 0.6, 0.3, 0.2))]
    found = [Importance(label, 1 / groups, 0.1, 1 / groups) for label in labels]
    return Tuning("accuracy", True, 0.0, 0.8, [0, 1, 2], GROUPS[:groups], trials, 1, found if groups > 1 else [], [])


def test_a_study_without_a_tuning_has_no_such_section():
    assert "tuning" not in [section.id for section in sections(make_result())]


@pytest.mark.parametrize(("groups", "figures"), [(1, [1]), (2, [2, 1]), (8, [6, 1])])
def test_the_section_has_a_figure_a_rate_and_the_importances(groups, figures):
    section = next(one for one in sections(replace(make_result(), tuning=tuned(groups))) if one.id == "tuning")
    assert [len(block.plots) for block in section.blocks] == figures


def test_every_trial_is_drawn_once_and_the_chosen_one_is_marked():
    found = tuned()
    drawn = tuning.score_against_rate(make_result(), found, found.groups[0])
    assert {trace.name: list(trace.x) for trace in drawn.data} == {"finished": [0.0, 0.2], "pruned": [0.3], "chosen": [0.6]}


def test_the_page_escapes_labels_and_says_what_was_chosen():
    page = render(replace(make_result(), tuning=tuned()))
    assert "layer.0<b>" not in page
    assert "Of 4 settings the diamond was chosen" in page


def test_a_tuning_survives_the_file(tmp_path):
    result = replace(make_result(), tuning=tuned())
    assert load_result(result.save(tmp_path / "result.json")).tuning == result.tuning
