"""What docs/schedules.md shows runs and is what the command prints."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.cli.main import main
from dropkit.schedules.text import SCHEDULES

GUIDE = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", range(4))
def test_a_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(BLOCKS[block], {"torch": torch, "nn": nn, "dk": dk})


def test_the_picture_is_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command, = re.findall(r"dropkit schedule \"(.*?)\" --steps (\d+)", GUIDE)
    assert main(["schedule", command[0], "--steps", command[1]]) == 0
    assert re.findall(r"```text\n(.*?)```", GUIDE, flags=re.DOTALL) == [capsys.readouterr().out]


def test_the_table_has_every_schedule():
    table = GUIDE.split("## All of them")[1].split("**The length")[0]
    assert re.findall(r"^\| `(\w+)\(", table, flags=re.MULTILINE) == list(SCHEDULES)
