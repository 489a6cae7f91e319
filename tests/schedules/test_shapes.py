"""Every shape against its formula, written down here once more, at every step."""

import copy
import math
import pickle
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dropkit as dk
from dropkit import schedules as s

sys.path.insert(0, str(Path(__file__).parent))
import strategies

N = 97


def line(start, end, share):
    exact = Fraction(start) + (Fraction(end) - Fraction(start)) * min(Fraction(share), 1)
    return float(exact)


def keep(t, k, gamma):
    return (1 - k) * math.exp(-gamma * t) + k


def triangle(t, low, high, period):
    u = Fraction(t, period) - math.floor(Fraction(t, period))
    return line(low, high, 2 * u if u <= Fraction(1, 2) else 2 - 2 * u)


FORMULAS = {
    "constant": (s.constant(0.3), lambda t: 0.3),
    "linear": (s.linear(0.1, 0.7, steps=N), lambda t: line(0.1, 0.7, Fraction(t, N))),
    "linear down": (s.linear(0.7, 0.1, steps=N), lambda t: line(0.7, 0.1, Fraction(t, N))),
    "cosine": (s.cosine(0.7, 0.1, steps=N), lambda t: 0.1 + 0.6 * (1 + math.cos(math.pi * min(t / N, 1))) / 2),
    "cosine up": (s.cosine(0.1, 0.7, steps=N), lambda t: 0.7 - 0.6 * (1 + math.cos(math.pi * min(t / N, 1))) / 2),
    "exponential": (s.exponential(0.6, 0.2, gamma=0.05), lambda t: 0.2 + 0.4 * math.exp(-0.05 * t)),
    "exponential over the run": (s.exponential(0.6, 0.2, steps=N), lambda t: 0.2 + 0.4 * math.exp(-10 * t / N)),
    "step": (s.step(0.1, 0.4, stages=4, steps=N), lambda t: (0.1, 0.2, 0.3, 0.4)[min(math.floor(Fraction(4 * t, N)), 3)]),
    "piecewise": (s.piecewise([0.3, 0.1, 0.2], [5, 60]), lambda t: 0.3 if t < 5 else 0.1 if t < 60 else 0.2),
    "cyclic": (s.cyclic(0.1, 0.5, period=20), lambda t: triangle(t, 0.1, 0.5, 20)),
    "cyclic, odd": (s.cyclic(0.1, 0.5, period=7), lambda t: triangle(t, 0.1, 0.5, 7)),
    "curriculum": (s.curriculum(0.5, gamma=0.02), lambda t: 1 - keep(t, 0.5, 0.02)),
    "curriculum over the run": (s.curriculum(0.3, steps=N), lambda t: 1 - keep(t, 0.7, 10 / N)),
    "annealed": (s.annealed(0.5, steps=N), lambda t: 0.5 * max(0.0, 1 - t / N)),
    "early": (s.early(0.2, 40), lambda t: 0.2 * (1 - t / 40) if t < 40 else 0.0),
    "early, constant": (s.early(0.2, 40, form="constant"), lambda t: 0.2 if t < 40 else 0.0),
    "late": (s.late(0.2, 40), lambda t: 0.0 if t < 40 else 0.2),
    "late, ramp": (s.late(0.2, 40, ramp=10), lambda t: 0.0 if t < 40 else 0.2 * min(1.0, (t - 40) / 10)),
    "warm_up": (s.warm_up(s.annealed(0.4, steps=50), 30),
                lambda t: 0.4 * t / 30 if t < 30 else 0.4 * max(0, 1 - (t - 30) / 50)),
    "join": (s.join([s.linear(0, 0.5), 0.2], [30]), lambda t: 0.5 * t / 30 if t < 30 else 0.2),
    "at_depth": (s.at_depth(s.linear(0, 0.6, steps=N), 2, 8), lambda t: 0.6 * min(t / N, 1) * 3 / 8),
    "at_depth, linspace": (s.at_depth(s.linear(0, 0.6, steps=N), 2, 8, "linspace"), lambda t: 0.6 * min(t / N, 1) * 2 / 7),
}
# The first and the last rate, exactly, and the step of the last.
ENDS = {
    "linear": (0.1, 0.7, N), "linear down": (0.7, 0.1, N), "cosine": (0.7, 0.1, N), "cosine up": (0.1, 0.7, N),
    "step": (0.1, 0.4, N), "annealed": (0.5, 0.0, N), "early": (0.2, 0.0, 40), "late, ramp": (0.0, 0.2, 50),
    "exponential": (0.6, 0.2, 10**6),
    "curriculum": (0.0, 0.5, 10**6), "warm_up": (0.0, 0.0, 80), "at_depth": (0.0, 0.6 * (3 / 8), N),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_every_step_is_the_formula(name):
    schedule, formula = FORMULAS[name]
    for t in range(2 * N):
        assert schedule(t) == pytest.approx(formula(t), abs=2e-16, rel=4e-16), t


@pytest.mark.parametrize("name", ENDS)
def test_the_ends_are_exact_and_lasting(name):
    schedule, (first, last, end) = FORMULAS[name][0], ENDS[name]
    assert [schedule(t) for t in (-5, 0)] == [first, first]
    assert [schedule(t) for t in (end, end + 1, 10 * end)] == [last, last, last]


def test_scheduled_drop_path_is_depth_rates_at_every_step():
    schedule = s.cosine(0.0, 0.3, steps=N)
    for rule in ("paper", "linspace", "zero_based"):
        blocks = [s.at_depth(schedule, block, 12, rule) for block in range(12)]
        for t in range(N + 1):
            assert tuple(block(t) for block in blocks) == dk.depth_rates(schedule(t), 12, rule)


@given(strategies.any_schedule, st.integers(1, 3000), st.lists(st.integers(-10, 5000), min_size=1, max_size=20))
def test_rates_are_rates(schedule, steps, places):
    closed = schedule.over(steps)
    assert not closed.is_open
    for t in places:
        rate = closed(t)
        assert type(rate) is float
        assert 0.0 <= rate <= 1.0
        assert schedule(t, steps) == rate == closed(max(t, 0))


@given(strategies.monotone, st.integers(1, 3000))
def test_between_its_ends_a_shape_goes_one_way(schedule, steps):
    values = [schedule(t, steps) for t in range(0, 2 * steps, max(1, steps // 50))]
    assert values in (sorted(values), sorted(values, reverse=True))


@given(strategies.any_schedule)
def test_equality_is_by_value_and_copies_are_equal(schedule):
    for other in (copy.copy(schedule), copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert other == schedule
        assert hash(other) == hash(schedule)
    assert schedule != s.warm_up(schedule, 7)


def test_lists_tuples_and_integers_make_the_same_value():
    assert s.piecewise([0, 1], [5]) == s.piecewise((0.0, 1.0), (5,))
    assert s.linear(0, 1) == s.linear(0.0, True + 0.0) != s.linear(0, 1, steps=3)
    assert s.join([0.1], []) == s.join([s.constant(0.1)], ())
    assert s.annealed(0.5) != s.constant(0.5)


def test_schedules_are_immutable():
    schedule = s.linear(0.0, 0.5)
    for change in (lambda: setattr(schedule, "end", 0.1), lambda: setattr(schedule, "a", 1), lambda: delattr(schedule, "end")):
        with pytest.raises(AttributeError, match="do not change"):
            change()
    assert schedule == s.linear(0.0, 0.5)
    assert vars(schedule) == {"start": 0.0, "end": 0.5, "steps": None}


def test_the_length_comes_from_outside_once():
    schedule = s.linear(0.0, 0.5)
    assert schedule.is_open
    assert schedule.over(10) == s.linear(0.0, 0.5, steps=10) == schedule.over(10).over(99)
    with pytest.raises(dk.InputError, match=r"knows its length; got linear\(0\.0, 0\.5\)\. Pass steps="):
        schedule(3)
    assert not s.curriculum(0.5, gamma=0.1).is_open


def test_what_is_open_inside_gets_the_steps_that_are_left():
    inner = s.linear(0.4, 0.0)
    assert s.warm_up(inner, 30).over(100) == s.warm_up(s.linear(0.4, 0.0, steps=70), 30)
    assert s.join([inner, inner, inner], [10, 30]).over(100) == s.join(
        [s.linear(0.4, 0.0, steps=10), s.linear(0.4, 0.0, steps=20), s.linear(0.4, 0.0, steps=70)], [10, 30])
    assert s.join([0.1, inner], [100]).over(100)(99) == 0.1  # the last piece never comes
    assert s.at_depth(inner, 0, 2).over(8) == s.at_depth(s.linear(0.4, 0.0, steps=8), 0, 2)


@given(strategies.monotone, strategies.monotone, st.integers(1, 500))
def test_joined_pieces_meet_where_they_are_told(first, second, at):
    joined = s.join([first, second], [at]).over(2000)
    before, after = first.over(at), second.over(2000 - at)
    assert [joined(t) for t in (0, at // 2, at - 1)] == [before(t) for t in (0, at // 2, at - 1)]
    assert [joined(at + t) for t in (0, 1, 700)] == [after(t) for t in (0, 1, 700)]


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_lines_that_share_a_rate_join_without_a_jump(a, b, c, first, second):
    joined = s.join([s.linear(a, b), s.cosine(b, c, steps=second)], [first])
    steepest = max(abs(b - a) / first, math.pi / 2 * abs(c - b) / second) + 1e-12
    values = [joined(t) for t in range(first + second + 2)]
    assert values[first] == b
    assert all(abs(after - before) <= steepest for before, after in pairwise(values))


@pytest.mark.parametrize("step", [0.5, "1", None, True, torch.ones(2)])
def test_a_step_is_a_whole_number(step):
    with pytest.raises(dk.InputError, match="a step is a whole number"):
        s.constant(0.5)(step)


def test_integers_of_other_kinds_are_steps_too():
    assert s.linear(0.0, 0.5, steps=torch.tensor(10))(torch.tensor(5)) == 0.25


@pytest.mark.parametrize(("make", "rule"), [
    (lambda: s.constant(1.5), "rate is a probability"), (lambda: s.constant(float("nan")), "rate is a probability"),
    (lambda: s.linear(0.0, "a"), "end is a probability"), (lambda: s.linear(-0.1, 0.5), "start is a probability"),
    (lambda: s.linear(0, 1, steps=0), "steps is a whole number, at least 1"),
    (lambda: s.linear(0, 1).over(2.5), "steps is a whole"),
    (lambda: s.linear(0, 1, 9).over(-1), "steps is a whole"),
    (lambda: s.step(0, 1, stages=1), "stages is a whole number, at least 2"),
    (lambda: s.cyclic(0.5, 0.1, 10), "high is at least low"),
    (lambda: s.cyclic(0.1, 0.5, 1), "period is a whole number, at least 2"),
    (lambda: s.exponential(0, 1, gamma=0), "gamma is a speed"),
    (lambda: s.curriculum(0.5, gamma=True), "gamma is a speed"),
    (lambda: s.curriculum(0.5, gamma=0.1, steps=10), "has gamma or steps"),
    (lambda: s.early(0.1, 0), "cutoff is a whole number"),
    (lambda: s.early(0.1, 5, form="square"), 'form is "linear" or "constant"'),
    (lambda: s.late(0.1, 5, ramp=-1), "ramp is a whole"),
    (lambda: s.piecewise([0.1, 0.2], [5, 6]), "one more in rates"),
    (lambda: s.piecewise([0.1, 0.2, 0.3], [5, 5]), "at rise"),
    (lambda: s.piecewise(0.1, []), "rates is a list"),
    (lambda: s.piecewise([0.1, 2], [5]), "an entry of rates is a prob"),
    (lambda: s.piecewise([], []), "one more in rates"), (lambda: s.join([], []), "one more in schedules"),
    (lambda: s.join([0.1, lambda t: 0.1], [3]), "an entry of schedules is one of"),
    (lambda: s.join([0.1, 0.2], [0]), "an entry of at"),
    (lambda: s.warm_up("linear", 3), "schedule is one of"), (lambda: s.warm_up(0.1, 0), "length is a whole"),
    (lambda: s.at_depth(0.1, 4, 4), "block counts from 0"), (lambda: s.at_depth(0.1, 0, 4, "deep"), "rule is"),
])
def test_bad_values_are_refused_when_made(make, rule):
    with pytest.raises(dk.InputError, match=rule):
        make()
