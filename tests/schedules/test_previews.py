"""Values and pictures of schedules."""

import builtins
import struct
import xml.etree.ElementTree as ET

import pytest

import dropkit as dk
from dropkit import schedules as s
from dropkit.schedules.drawing import _ticks


def rows_of(text):
    """The plot's rows as (label, line) from the top."""
    plot = [row for row in text.splitlines() if row[8:9] in ("┼", "┤", "│")]
    return [(row[:7].strip(), row[9:].ljust(71)) for row in plot]


def test_values_are_those_of_every_step():
    drawn = s.preview(s.linear(0.0, 0.5), 10)
    assert drawn.schedule == s.linear(0.0, 0.5, steps=10)
    assert drawn.values == tuple(s.linear(0.0, 0.5, steps=10)(t) for t in range(11))
    assert s.preview(0.1, 3).values == (0.1, 0.1, 0.1, 0.1)


@pytest.mark.parametrize("text", ["cosine(0.5, 0.1)", "late(0.3, 700)", "cyclic(0.05, 0.3, 50)", "curriculum(0.001)", "1", "0"])
@pytest.mark.parametrize("steps", [1, 2, 70, 1000, 54321])
def test_the_text_fits_and_meets_the_values_at_the_ends(text, steps):
    drawn = s.preview(text, steps)
    picture = str(drawn)
    assert max(map(len, picture.splitlines())) <= 80
    rows = rows_of(picture)
    top = float(rows[0][0])
    for column, value in ((0, drawn.values[0]), (70, drawn.values[-1])):
        row = len(rows) - 1 - round(value / top * (len(rows) - 1))
        assert rows[row][1][column] in "─━│╭╮╰╯"
    assert picture.splitlines()[-2].split()[-1] == str(steps)


def test_labels_stand_at_their_rates():
    rows = rows_of(s.preview("constant(0.3)", 10).text())
    for i, (label, line) in enumerate(rows[:-1]):
        assert set(line) == ({"─"} if label == "0.3" else {" "}), i
    assert [label for label, _ in rows if label] == ["0.3", "0.2", "0.1", "0"]


def test_a_column_shows_what_happens_within_it():
    rows = rows_of(s.preview("piecewise([0, 1, 0], [5003, 5004])", 10_000).text())
    assert [line.count("│") for _, line in rows[:-1]] == [1] * (len(rows) - 1)  # one step of ten thousand


@pytest.mark.parametrize(("most", "expected"), [(0.5, 0.5), (0.45, 0.5), (1.0, 1.0), (0.3, 0.3), (0.1 + 0.2, 0.3), (7e-5, 8e-5),
                                                  (0.0, 1.0)])
def test_ticks_are_round_and_reach_the_top(most, expected):
    ticks = _ticks(most, 5)
    assert ticks[-1] == expected
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == 0.0


def test_a_late_jump_is_found():
    assert s.preview("late(0.3, 700)", 1000).late_jump == 700
    assert s.preview("late(0.3, 500)", 1000).late_jump is None  # the first half is not late
    assert s.preview("late(0.1, 700)", 1000).late_jump is None
    assert s.preview("late(0.3, 700, ramp=100)", 1000).late_jump is None
    assert s.preview("early(0.9, 700, form='constant')", 1000).late_jump is None


def test_images_are_written_whole(tmp_path):
    drawn = s.preview("join([linear(0, 0.5), 0.5], [100])", 300)
    svg, png = drawn.save(tmp_path / "a.svg"), drawn.save(tmp_path / "a.PNG")
    assert ET.parse(svg).getroot().tag.endswith("svg")
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    assert (width, height) == (1080, 510)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["a.PNG", "a.svg"]


def test_the_same_values_give_the_same_bytes():
    import matplotlib

    plain = [s.preview("cosine(0.5, 0.1)", 50).image(kind) for kind in ("svg", "png")]
    with matplotlib.rc_context({"axes.facecolor": "red", "savefig.dpi": 10}):  # a style of the user's
        assert [s.preview("cosine(0.5, 0.1)", 50).image(kind) for kind in ("svg", "png")] == plain
    assert plain[0] != s.preview("cosine(0.5, 0.2)", 50).image("svg")


def test_without_matplotlib_there_is_text_and_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest, **options):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    drawn = s.preview("cosine(0.5, 0.1)", 50)
    assert "┼" in str(drawn)
    with pytest.raises(dk.MissingExtraError, match=r"dropkit\[plot\]"):
        drawn.image("svg")


@pytest.mark.parametrize(("call", "rule"), [
    (lambda: s.preview("0.1", 0), "steps is a whole number"),
    (lambda: s.preview("0.1", 10**7), "at most 1000000 steps"),
    (lambda: s.preview(None), "schedule is one of"), (lambda: s.preview("0.1").text(width=20), "at least 40 columns"),
    (lambda: s.preview("0.1").text(height=1), "4 rows"), (lambda: s.preview("0.1").image("pdf"), "an svg or a png"),
    (lambda: s.preview("0.1").save("picture"), "an svg or a png"),
])
def test_bad_values_are_refused(call, rule):
    with pytest.raises(dk.InputError, match=rule):
        call()
