"""Tuning end to end: test data stays unseen, a killed tuning goes on, the confirming study has fresh seeds."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.cli.main import main
from dropkit.core.errors import InputError
from dropkit.study.data import load
from dropkit.study.holdout import set_aside
from dropkit.study.partition import partition
from dropkit.study.prepare import prepare
from dropkit.study.tuning.result import load_tuned
from dropkit.study.tuning.search import NAME
from dropkit.study.tuning.worker import blind, evaluate

EXPERIMENT = """
import dropkit as dk
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.3), nn.Linear(8, 3))

experiment = dk.Experiment(data="iris", model=build, epochs={epochs}, batch_size=16)
"""


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def rows(x):
    return {tuple(row) for row in x.tolist()}


def test_no_tuning_seed_trains_or_validates_on_the_test_part():
    generator = torch.Generator().manual_seed(0)
    data = set_aside(load((torch.randn(60, 4, generator=generator), torch.arange(60) % 3)), 0)
    test = rows(data.x_test)
    parts = [partition(data, seed) for seed in range(5)]
    assert len(test) == 12
    assert all(rows(part.x_test) == test and not (rows(part.x_train) | rows(part.x_val)) & test for part in parts)
    assert len({tuple(sorted(rows(part.x_val))) for part in parts}) == 5  # the rest is split by each seed
    assert {(len(part.x_train), len(part.x_val)) for part in parts} == {(36, 12)}
    assert set_aside(data, 3) is data


def test_what_a_trial_scores_does_not_depend_on_the_test_data():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.arange(60) % 3
    found = []
    for test in ((x[:12], y[:12]), (1e6 * x[20:32], (y[20:32] + 1) % 3)):
        ready = prepare(dk.Experiment(data={"train": (x[12:], y[12:]), "test": test}, model=build, epochs=2))
        part = blind(ready).part(1)
        assert torch.equal(part.x_test, part.x_val)
        found.append(evaluate(blind(ready), {"2": 0.3}, 1).value)
    assert found[0] == found[1]


def test_a_trial_scores_the_validation_metric():
    from dropkit.study.result import Arm, SiteRate
    from dropkit.study.training import train
    ready = prepare(dk.Experiment(data="iris", model=build, epochs=2))
    run = train(ready, Arm("same", "", [SiteRate("2", "dropout", 0.3)]), 4)
    assert evaluate(blind(ready), {"2": 0.3}, 4).value == run.val_metric
    wild = prepare(dk.Experiment(data="iris", model=build, epochs=2, optimizer="sgd", lr=1e30))
    outcome = evaluate(blind(wild), {"2": 0.3}, 4)
    assert outcome.diverged
    assert outcome.value == pytest.approx(1 / 3, abs=0.04)


@pytest.mark.parametrize("options", [
    {"trials": 0}, {"seeds": 0}, {"confirm_seeds": 0}, {"low": 0.5, "high": 0.5}, {"high": 1.0}, {"sites": "some"},
    {"seed": -1}, {"prune": 2.0}, {"jobs": 0}])
def test_bad_options_leave_nothing_behind(options, tmp_path):
    with pytest.raises(InputError):
        dk.tune(dk.Experiment(data="iris", model=build, epochs=1), out=tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_one_line(tmp_path, capsys):
    (tmp_path / "photo.png").write_bytes(b"")
    assert main(["tune", "iris", "--epochs", "1", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("dropkit tune: error: the output folder is new, empty, or holds this tuning")
    assert len(error.splitlines()) == 1
    assert [item.name for item in tmp_path.iterdir()] == ["photo.png"]


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr("dropkit.cli.extras.find_spec", lambda package: None if package == "optuna" else object())
    assert main(["tune", "digits"]) == 2
    assert "pip install 'dropkit[tune]'" in capsys.readouterr().err


@pytest.mark.slow
def test_from_search_to_verdict(tmp_path, capsys):
    file, out = tmp_path / "exp.py", tmp_path / "out"
    file.write_text(EXPERIMENT.format(epochs=2))
    command = ["tune", f"{file}:experiment", "--trials", "3", "--seeds", "2", "--confirm-seeds", "2", "--jobs", "1",
               "--sites", "per-site", "--lr", "0.05", "--out", str(out)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "Best of 3 trials: 2=" in shown.out
    assert "[3/3] 2=0.5, 4=0.3: accuracy" in shown.err
    found = load_tuned(out)
    assert found.study.seeds == [2, 3]
    assert found.tuning.seeds == [0, 1]
    assert found.study.tuning == found.tuning
    assert found.rates == {"2": found.tuning.chosen.rates["2"], "4": found.tuning.chosen.rates["4"]}
    assert found.verdict.kind == "leaning"
    assert "(--confirm-seeds 8)" in found.verdict.next_step
    assert "Tuning" in (out / "report.html").read_text(encoding="utf-8")
    assert any("All seeds are tested on the same 30 examples" in caution for caution in found.study.cautions)
    assert main(["status", str(out)]) == 0
    assert "tuning: 3 trials finished, best" in capsys.readouterr().out
    before = json.loads((out / "confirm" / "result.json").read_text())["runs"]
    assert main(command) == 0  # nothing is left to do
    assert "3 trials were finished before" in capsys.readouterr().err
    assert json.loads((out / "confirm" / "result.json").read_text())["runs"] == before
    assert main([*command, "--high", "0.7"]) == 2
    assert "a tuning folder holds one tuning" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_tuning_goes_on_to_the_same_rates(number, tmp_path):
    file, out = tmp_path / "exp.py", tmp_path / "out"
    file.write_text(EXPERIMENT.format(epochs=60))

    def command(folder):
        return [sys.executable, "-m", "dropkit", "tune", f"{file}:experiment", "--trials", "5", "--seeds", "1",
                "--confirm-seeds", "1", "--jobs", "1", "--out", str(folder)]
    driver = subprocess.Popen(command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and finished(out) < 1:
        time.sleep(0.05)
    driver.send_signal(number)
    _, error = driver.communicate(timeout=60)
    kept = finished(out)
    assert 1 <= kept < 5, error
    if number == signal.SIGINT:
        assert driver.returncode == 130
        assert f"Stopped: {kept} of 5 trials are finished and kept" in error
    resumed = subprocess.run(command(out), capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    before = "1 trial was" if kept == 1 else f"{kept} trials were"
    assert f"; {before} finished before" in resumed.stderr
    subprocess.run(command(tmp_path / "whole"), capture_output=True, text=True, check=True)
    again, whole = load_tuned(out), load_tuned(tmp_path / "whole")
    assert settings(again) == settings(whole)
    assert again.study.numbers() == {**whole.study.numbers(), "tuning": again.study.numbers()["tuning"]}


def settings(found):
    return [(trial.index, trial.rates, trial.values, trial.value, trial.status) for trial in found.tuning.trials]


def finished(folder):
    """Read Optuna's table as it is: opening its storage again and again would slow the tuning down."""
    if not (folder / NAME).exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(folder / NAME)) as db:
            return db.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0
