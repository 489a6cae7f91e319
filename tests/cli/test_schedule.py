"""``dropkit schedule``: pictures of schedules, and wrong ones in a line."""

import xml.etree.ElementTree as ET

import pytest

from dropkit.cli.main import main
from dropkit.schedules.text import SCHEDULES


def test_it_is_drawn(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["schedule", "cosine(0.5, 0.1)", "--steps", "400"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cosine(0.5, 0.1, steps=400)"
    assert lines[-1] == "step 0: 0.5, step 200: 0.3, step 400: 0.1; mean 0.3005"
    assert max(map(len, lines)) == 80
    assert "0.5 ┼───" in lines[2]


@pytest.mark.parametrize("columns", ["80", "60", "30"])
def test_it_fits_the_terminal(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["schedule", "join([linear(0, 0.5), warm_up(cosine(0.5, 0.1), 100), annealed(0.5)], [200, 700])"]) == 0
    assert max(map(len, capsys.readouterr().out.split("step 0:")[0].splitlines())) <= max(int(columns), 40)


def test_pictures_are_written(tmp_path, capsys):
    svg, png = tmp_path / "rates.svg", tmp_path / "rates.png"
    assert main(["schedule", "annealed(0.5)", "--svg", str(svg), "--png", str(png)]) == 0
    assert ET.parse(svg).getroot().tag.endswith("svg")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert f"Wrote {svg}\nWrote {png}\n" in capsys.readouterr().out
    assert len(list(tmp_path.iterdir())) == 2


def test_a_late_jump_is_cautioned_against(capsys):
    assert main(["schedule", "late(0.3, 700)"]) == 0
    assert "Caution: the rate jumps from 0 to 0.3 at step 700, late in the run." in capsys.readouterr().out
    assert main(["schedule", "late(0.3, 700, ramp=100)"]) == 0
    assert "Caution" not in capsys.readouterr().out


def test_all_are_listed_in_a_line_each(capsys):
    assert main(["schedule", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[0] for line in lines] == list(SCHEDULES)
    assert all(line.endswith(".") for line in lines)


@pytest.mark.parametrize(("arguments", "words"), [
    (["cosin(0.5, 0.1)"], "nearest are cosine"), (["cosine(0.5)"], "Write cosine(start, end, steps=None)"),
    (["cosine(0.5, 1.5)"], "got 1.5"), (["cosine(0.5, 0.1"], "written as a call"), ([], "--list shows all"),
    (["annealed(1)", "--steps", "0"], "at least 1"), (["open('/etc/passwd')"], "known one"),
    (["annealed(1)", "--svg", "nowhere/at/all.svg"], "nowhere"),
])
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["schedule", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert list(tmp_path.iterdir()) == []
