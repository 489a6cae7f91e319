"""Text that is read as schedules, and text that is not."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dropkit as dk
from dropkit import schedules as s
from dropkit.schedules.text import SCHEDULES, signature

sys.path.insert(0, str(Path(__file__).parent))
import strategies


@given(strategies.any_schedule)
def test_a_schedule_is_its_text(schedule):
    assert s.parse(repr(schedule)) == schedule


@given(st.text() | st.text(alphabet="abcdefgjnrs_(),.[]0123456789=-\"' *", max_size=40))
def test_any_other_text_is_an_input_error(text):
    try:
        schedule = s.parse(text)
    except dk.InputError:
        return
    assert isinstance(schedule, s.Schedule)


def test_every_public_schedule_can_be_written():
    assert set(SCHEDULES) == set(s.__all__) - {"Preview", "Schedule", "parse", "preview"}
    assert signature(SCHEDULES["join"]) == "join(schedules, at)"
    assert signature(SCHEDULES["early"]) == "early(rate, cutoff, form='linear')"


def test_texts_are_as_short_as_they_can_be():
    assert repr(s.linear(0, 0.5)) == "linear(0.0, 0.5)"
    assert repr(s.early(0.1, 9, form="constant")) == "early(0.1, 9, form='constant')"
    assert repr(s.join([s.cosine(0.5, 0.1, steps=3), 0.1], [3])) == "join([cosine(0.5, 0.1, steps=3), constant(0.1)], [3])"


@pytest.mark.parametrize(("text", "schedule"), [
    ("cosine(0.5, 0.1)", s.cosine(0.5, 0.1)), ("  linear(start=0, end=1, steps=5)\n", s.linear(0, 1, 5)),
    ("0.3", s.constant(0.3)),
    ("warm_up(linear(.5, .1), 100)", s.warm_up(s.linear(0.5, 0.1), 100)),
    ("join((0.1, annealed(0.1)), (7,))", s.join([0.1, s.annealed(0.1)], [7])),
    ("linear(0, 1, steps=None)", s.linear(0, 1)), ("early(0.1, 5, 'constant')", s.early(0.1, 5, "constant")),
    ("constant(-0.0)", s.constant(0.0)),
])
def test_what_can_be_written(text, schedule):
    assert s.parse(text) == schedule


@pytest.mark.parametrize(("text", "message"), [
    ("cosin(0.5, 0.1)", r"known one; got 'cosin'\. The nearest are cosine"),
    ("zzz(0.5)", "There are constant, linear"),
    ("Linear(0, 1)", "nearest are linear"),
    ("linear", r"written with its values; got linear\. Write linear\(start, end"),
    ("linier", "nearest are linear"),
    ("linear(0.5)", r"missing a required argument: 'end'; got 1 positional.*Write linear\(start, end"),
    ("linear(0, 1, 2, 3)", "too many positional"), ("linear(0, 1, stepz=3)", "stepz"),
    ("linear(0, 0, start=1)", "multiple values"),
    ("constant(2)", r"rate is a probability.*got 2"), ("constant(-0.5)", "got -0.5"), ("constant(True)", "got True"),
    ("", "written as a call"), ("linear(0, 1", "written as a call"),
    ("linear(0, 1) + 1", "names of schedules, numbers"),
    ("[0.1, 0.2]", "a schedule's text is one of"), ("'linear'", "a schedule's text is one of"),
    ("None", "a schedule's text is one of"),
    ("linear(*[0, 1])", "names of schedules, numbers"), ("linear(**{})", "names of schedules, numbers"),
    ("__import__('os').system('true')", "names of schedules, numbers"), ("open('x')", "known one; got 'open'"),
    ("linear.__class__", "names of schedules, numbers"), ("(lambda: 0)()", "names of schedules, numbers"),
    ("constant(1e999)", "rate is a probability"), ("constant(" + "9" * 5000 + ")", "written as a call"),
    ("constant(b'1')", "names of"),
    ("x" * 10_001, "at most 10000 characters"), ("(" * 300 + ")" * 300, "written as a call"),
    ("warm_up(" * 1200, "written as a call"),
    ("warm_up(" * 90 + "0.1" + ", 1)" * 90, None), ("-" * 3000 + "1", "written as a call|names of schedules"),
    ("0.1\0", "written as a call"),
])
def test_what_cannot(text, message):
    if message is None:  # deep and right
        assert s.parse(text)(1000) == 0.1
        return
    with pytest.raises(dk.InputError, match=message):
        s.parse(text)


def test_text_is_a_str():
    with pytest.raises(dk.InputError, match="is a str"):
        s.parse(b"linear(0, 1)")
