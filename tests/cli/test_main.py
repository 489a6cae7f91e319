"""The command line: exit codes, and errors in a line."""

import os
import subprocess
import sys

import pytest

import dropkit as dk
from dropkit.cli.main import main


def test_list_names_every_variant(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()][:1] == ["dropout"]
    assert "dropout2d" in shown


def test_list_names_every_preset(capsys):
    assert main(["list", "--presets"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == [row.name for row in dk.presets.PRESETS]
    assert "Ghiasi, Lin, Le" in shown


def test_env_names_versions_and_the_kernel(capsys):
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    assert "torch" in shown
    assert "cpu: native (instruction set " in shown or "cpu: reference (" in shown


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["study"], ["study", "digits", "--seeds", "many"]])
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


EXITS = """\
import sys
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

def leaves():
    sys.exit(0)

class Leaves(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = build()

    def forward(self, x):
        sys.exit(0)

class Late(Leaves):
    def forward(self, x):
        return self.net(x) if self.training else leaves()
"""


@pytest.mark.parametrize(("arguments", "said"), [
    (["study", "digits", "--sedes", "3"], "dropkit study: error: unrecognized arguments: --sedes 3, perhaps --seeds."),
    (["report", "a", "b", "c"], "dropkit report: error: unrecognized arguments: c. See `dropkit report --help`.")])
def test_what_a_command_does_not_know_is_told_by_that_command(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("command", [
    "audit script.py:build --input 2,4", "audit exits.py:leaves --input 2,4", "audit exits.py:Leaves --input 2,4",
    "audit exits.py:build --inputs exits.py:leaves", "predict script.py:build --data d.csv --task regression",
    "predict exits.py:leaves --data d.csv --task regression", "predict exits.py:Leaves --data d.csv --task regression",
    "study script.py:build --data iris", "study exits.py:leaves --data iris", "study exits.py:Leaves --data iris",
    "study exits.py:Late --data iris"])
def test_code_that_calls_sys_exit_is_an_error_and_no_success(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exits.py").write_text(EXITS)
    (tmp_path / "script.py").write_text(EXITS + "\nleaves()\n")
    (tmp_path / "d.csv").write_text("a,b,c,d\n1,2,3,4\n5,6,7,8\n")
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert "SystemExit: 0" in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["report", "status"])
def test_a_folder_without_a_study_is_refused(command, tmp_path, capsys):
    assert main([command, str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert "dropkit study --out" in error


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("dropkit ")


@pytest.mark.parametrize("arguments", [["explain", "dropout"], ["schedule", "cosine(0.5, 0.1)", "--steps", "9"]])
def test_a_terminal_without_block_characters_is_no_error(arguments):
    done = subprocess.run([sys.executable, "-m", "dropkit", *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "?" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_has_gone_is_no_error(unbuffered):
    """As behind `| head -1`; the output is in Python's buffer until the end, or written line by line."""
    begun = subprocess.Popen([sys.executable, "-m", "dropkit", "explain", "DK201"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    begun.stdout.close()
    with begun.stderr:
        assert begun.stderr.read() == b""
    assert begun.wait() == 141


def test_a_reader_who_has_gone_does_not_turn_a_study_into_an_error(tmp_path):
    """The table is printed by rich, which ends the program by SystemExit where nobody reads."""
    command = ["study", "iris", "--epochs", "1", "--seeds", "1", "--engine", "serial", "--out", str(tmp_path)]
    begun = subprocess.Popen([sys.executable, "-m", "dropkit", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begun.stdout.close()
    with begun.stderr:
        assert b"error" not in begun.stderr.read()
    assert begun.wait() == 141
    assert (tmp_path / "report.html").exists()
