"""What the README shows runs."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == 10


@pytest.mark.parametrize("block", [0, *range(2, 10)])
def test_a_block_runs(block, capsys):
    names = {"model": nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), "x": torch.ones(2, 4)}
    exec("import torch, dropkit as dk\n" + BLOCKS[block], names)
    assert "dk" in names


@pytest.mark.slow
def test_the_study_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(BLOCKS[0].replace("epochs=30", "epochs=2"), names)
    exec("import dropkit as dk\n" + BLOCKS[1].replace("seeds=8", "seeds=2"), names)
    assert "Cannot tell with 2 seeds" in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
