"""The guides run, block after block, and what they say of the runs holds."""

import re
from pathlib import Path

import pytest
import torch

import dropkit as dk

DOCS = Path(__file__).parent.parent / "docs"


def run(name):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(block, names)
    return names


def test_how_sure_is_my_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = run("how-sure.md")
    said = dict(re.findall(r"^([\w -]+?) (?:tensor\()?(\d\.\d+)", capsys.readouterr().out, flags=re.MULTILINE))
    assert (tmp_path / "risk_coverage.html").stat().st_size > 10_000
    assert float(said["ten times as bright"]) < 0.5, "the model is more sure of what it has never seen"
    assert float(said["predictive entropy"]) > 0.9
    assert abs(float(said["predictive entropy"]) - float(said["one pass"])) < 0.05
    assert names["found"].task == "regression"
    with_noise = dk.scores.interval_coverage(names["found"].mean, names["deviation"], names["test_y"])[0.95]
    without = dk.scores.interval_coverage(names["found"].mean, names["found"].variance.sqrt(), names["test_y"])[0.95]
    assert with_noise > 0.85 > 0.6 > without


@pytest.mark.parametrize("page", ["how-sure.md"])
def test_a_page_has_its_pictures(page):
    for name in re.findall(r"!\[.*?\]\((.*?)\)", (DOCS / page).read_text(encoding="utf-8")):
        assert (DOCS / name).is_file()
