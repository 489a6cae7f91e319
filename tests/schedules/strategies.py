"""Schedules drawn at random, for properties that hold for all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from dropkit import schedules as s

rates = st.floats(0.0, 1.0)
lengths = st.none() | st.integers(1, 3000)
counts = st.integers(1, 2000)
gammas = st.floats(1e-6, 10.0)


def in_order(size):
    return st.lists(counts, min_size=size, max_size=size, unique=True).map(sorted)


@st.composite
def pieces(draw, kind, entries):
    items = draw(st.lists(entries, min_size=1, max_size=4))
    return kind(items, draw(in_order(len(items) - 1)))


@st.composite
def depths(draw, inner):
    blocks = draw(st.integers(1, 30))
    rule = draw(st.sampled_from(["paper", "linspace", "zero_based"]))
    return s.at_depth(draw(inner), draw(st.integers(0, blocks - 1)), blocks, rule)


@st.composite
def cycles(draw):
    low, high = sorted([draw(rates), draw(rates)])
    return s.cyclic(low, high, draw(st.integers(2, 500)))


monotone = st.one_of(
    st.builds(s.constant, rates), st.builds(s.linear, rates, rates, steps=lengths), st.builds(s.cosine, rates, rates, lengths),
    st.builds(s.exponential, rates, rates, gammas), st.builds(s.exponential, rates, rates, steps=lengths),
    st.builds(s.step, rates, rates, st.integers(2, 20), lengths), st.builds(s.curriculum, rates, gammas),
    st.builds(s.curriculum, rates, steps=lengths), st.builds(s.annealed, rates, lengths),
    st.builds(s.early, rates, counts, st.sampled_from(["linear", "constant"])),
    st.builds(s.late, rates, counts, st.integers(0, 500)))
simple = monotone | cycles() | pieces(s.piecewise, rates)
any_schedule = st.recursive(
    simple, lambda inner: st.one_of(st.builds(s.warm_up, inner, counts), pieces(s.join, inner), depths(inner)), max_leaves=6)
