"""``dropkit study`` as a user types it."""

import subprocess
import sys

import pytest

from dropkit.cli.main import main

BAD = """
import torch
from torch import nn
import dropkit as dk

def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))

def wrong_signature(width, depth):
    return net()

def wrong_rate():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(1.5), nn.Linear(8, 3))

x, y = torch.rand(30, 4), torch.arange(30) % 3
holes = x.clone(); holes[3, 2] = float("nan")
with_nan = dk.Experiment(data=(holes, y), model=net)
out_of_range = lambda: dk.Experiment(data=(x, y + 5), model=net)
empty = lambda: dk.Experiment(data=(x[:0], y[:0]), model=net)
rate = lambda: dk.Experiment(data=(x, y), model=net, rate=1.5)
not_a_rate = lambda: dk.Experiment(data=(x, y), model=net, rates={"p": 0.5})
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(BAD)
    return path


@pytest.mark.parametrize(("arguments", "cause", "remedy"), [
    (["{file}:wrong_signature", "--data", "iris"], "wrong_signature(width, depth)", "defaults"),
    (["{file}:wrong_rate", "--data", "iris"], "1.5", "Correct the function"),
    (["{file}:with_nan"], "NaN", "."),
    (["{file}:out_of_range"], "label", "."),
    (["{file}:empty"], "empty", "."),
    (["{file}:rate"], "1.5", "probability of dropping"),
    (["{file}:not_a_rate"], "unexpected keyword argument 'p'", "rates"),
    (["digits", "--rate", "1.5"], "1.5", "probability of dropping"),
    (["missing.csv"], "missing.csv", "."),
    (["missing.py:experiment"], "missing.py", "Check the path"),
    (["digitz"], "digitz", "digits"),
    (["digits", "--seeds", "0"], "0", "8 is a good number"),
    (["digits", "--epochs", "0"], "epochs", "."),
    (["digits", "--metric", "rmse"], "rmse", "metric"),
    (["iris", "--tensorboard", "{file}"], "bad.py", "Choose another folder"),
    (["iris", "--arms", "none,intendet"], "intendet", "Did you mean 'intended'?"),
    (["iris", "--arms", "none,members=99"], "99 members in 40 epochs", "lower members"),
    (["iris", "--arms", "intended"], "at least two arms", 'arms="none,intended"'),
])
def test_wrong_input_is_one_line_exit_code_2_and_leaves_nothing(arguments, cause, remedy, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *(argument.format(file=file) for argument in arguments), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert error.startswith("dropkit study: error: ")
    assert cause in error
    assert remedy in error
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_holds_something_else(tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(b"")
    assert main(["study", "iris", "--out", str(tmp_path)]) == 2
    assert "Choose another folder with --out" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.slow
def test_three_seeds_cannot_tell_and_the_files_are_there(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["study", "digits", "--seeds", "3", "--epochs", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Cannot tell with 3 seeds")
    assert str(out / "report.html") in shown.replace("\n", "")
    assert {"result.json", "report.html", "ledger.sqlite"} <= {item.name for item in out.iterdir()}
    assert main(["status", str(out)]) == 0
    assert "9 of 9 runs finished" in capsys.readouterr().out
    first = (out / "report.html").read_bytes()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == first
    assert main(["study", "wine", "--seeds", "3", "--epochs", "2", "--out", str(out)]) == 2
    assert "holds 'digits'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_is_installed():
    done = subprocess.run([sys.executable, "-m", "dropkit", "--help"], capture_output=True, text=True, check=True)
    assert "study" in done.stdout


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("dropkit.cli.extras.find_spec", lambda package: None if package == "scipy" else object())
    assert main(["study", "digits"]) == 2
    assert "pip install 'dropkit[cli]'" in capsys.readouterr().err
