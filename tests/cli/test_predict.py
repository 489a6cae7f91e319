"""``dropkit predict``: a row an example in the data's order, whole files, and errors in one line."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.cli.main import main

NET = """
import torch
from torch import nn

def digits():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))

def line():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))

def two():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))

def bare():
    return nn.Linear(2, 2)

ready = two()
number = 3
"""


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NET)
    return str(file)


@pytest.fixture
def points(tmp_path):
    draw = np.random.default_rng(0)
    table = pd.DataFrame(draw.normal(size=(30, 2)), columns=["a", "b"])
    table["number"], table["kind"] = 3 * table["a"] + 5, np.where(table["a"] > 0, "yes", "no")
    table.drop(columns="kind").to_csv(tmp_path / "numbers.csv", index=False)
    table.drop(columns="number").to_csv(tmp_path / "kinds.csv", index=False)
    table[["a", "b"]].to_csv(tmp_path / "bare.csv", index=False)
    table[["a", "b"]][:0].to_csv(tmp_path / "header.csv", index=False)
    return tmp_path


def test_classes_are_predicted_as_by_mc_predict_in_the_order_of_the_data(net, tmp_path, capsys):
    out = tmp_path / "digits.csv"
    assert main(["predict", f"{net}:digits", "--data", "digits", "--passes", "7", "--seed", "3", "--out", str(out)]) == 0
    table = pd.read_csv(out)
    from sklearn.datasets import load_digits
    x = torch.from_numpy(load_digits().data).float()
    found = dk.mc_predict(made(net, "digits"), iter(x.split(256)), 7, seed=3, task="classification")
    assert table["label"].tolist() == found.labels.tolist()
    assert table["target"].tolist() == load_digits().target.tolist()
    np.testing.assert_allclose(table[[f"p_{k}" for k in range(10)]], found.mean, rtol=1e-5)
    np.testing.assert_allclose(table["mutual_information"], found.mutual_information, rtol=1e-4, atol=1e-6)
    said = capsys.readouterr().err
    assert "1,797 examples, 7 passes, 1 sites: wrote" in said
    assert f"accuracy {(found.labels.numpy() == load_digits().target).mean():.4g}" in said


def test_rates_by_site_memory_and_samples_are_those_of_mc_predict(net, points, capsys):
    file = points / "passes.npy"
    options = ["--data", str(points / "numbers.csv"), "--target", "number", "--passes", "6", "--rate", "1=0.2",
               "--memory", "0.5", "--samples", str(file)]
    assert main(["predict", f"{net}:line", *options]) == 0
    assert capsys.readouterr().out.count("\n") == 31
    x = torch.from_numpy(pd.read_csv(points / "numbers.csv")[["a", "b"]].to_numpy("float32"))
    wanted = dk.mc_predict(made(net, "line"), x, 6, rates={"1": 0.2}, task="regression", samples=True).samples
    np.testing.assert_allclose(np.load(file), wanted, rtol=1e-5)


@pytest.mark.parametrize(("options", "said"), [
    (["--rate", "high"], "a rate is a number"), (["--rate", "1=high"], "a rate is a number"),
    (["--rate", "=0.9"], "SITE=NUMBER"), (["--rate", " =0.9"], "SITE=NUMBER"), (["--like", "missing"], "got 'missing'"),
    (["--rate", "0.1", "--rate", "1=0.2"], "stands alone"), (["--rate", "other=0.2"], "other"), (["--rate", "2"], "2"),
    (["--memory", "0"], "memory is"), (["--memory", "nan"], "memory is"), (["--samples", "passes.csv"], "a .npy file"),
    (["--samples", "nowhere/passes.npy"], "a folder that exists")])
def test_wrong_rates_memory_and_samples_are_told_in_a_line(net, points, options, said, capsys):
    assert main(["predict", f"{net}:line", "--data", str(points / "numbers.csv"), "--target", "number", *options]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert shown.count("\n") <= 2


def made(net, name):
    scope = {}
    exec(NET, scope)
    return scope[name]()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_the_same_seed_gives_the_same_file_in_every_format(net, points, kind):
    first, again = points / f"one.{kind}", points / f"two.{kind}"
    for out in (first, again):
        assert main(["predict", f"{net}:line", "--data", str(points / "numbers.csv"), "--target", "number", "--passes", "5",
                     "--out", str(out)]) == 0
    assert first.read_bytes() == again.read_bytes()
    table = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": lambda file: pd.DataFrame(json.loads(file.read_text()))}
    found = table[kind](first)
    assert list(found.columns) == ["mean", "epistemic_sd", "lower", "upper", "target"]
    np.testing.assert_allclose(found["target"], pd.read_csv(points / "numbers.csv")["number"], rtol=1e-6)
    np.testing.assert_allclose(found["upper"] - found["mean"], 1.959964 * found["epistemic_sd"], rtol=1e-4)


def test_without_targets_the_task_is_told(net, points, capsys):
    words = ["predict", f"{net}:two", "--data", str(points / "bare.csv"), "--passes", "4"]
    assert main(words) == 2
    assert "Pass --task classification" in one_line(capsys)
    assert main([*words, "--task", "classification"]) == 0
    head = capsys.readouterr().out.splitlines()
    assert head[0].startswith("label,probability,p_0,p_1,predictive_entropy")
    assert len(head) == 31


def test_the_noise_widens_the_interval_and_adds_a_likelihood(net, points, capsys):
    words = ["predict", f"{net}:line", "--data", str(points / "numbers.csv"), "--target", "number", "--passes", "9"]
    assert main([*words, "--tau", "0.25", "--out", str(points / "o.csv")]) == 0
    table = pd.read_csv(points / "o.csv")
    np.testing.assert_allclose(table["predictive_sd"], np.sqrt(table["epistemic_sd"] ** 2 + 4.0), rtol=1e-5)
    np.testing.assert_allclose(table["upper"] - table["mean"], 1.959964 * table["predictive_sd"], rtol=1e-4)
    assert "log_likelihood" in capsys.readouterr().err


def test_the_training_data_gives_scale_and_classes(net, points, capsys):
    numbers, kinds = points / "numbers.csv", points / "kinds.csv"
    assert main(["predict", f"{net}:line", "--data", str(numbers), "--target", "number", "--like", str(numbers), "--passes",
                 "6", "--out", str(points / "o.csv")]) == 0
    raw = pd.read_csv(numbers)
    x = torch.tensor(((raw[["a", "b"]] - raw[["a", "b"]].mean()) / raw[["a", "b"]].std(ddof=0)).to_numpy()).float()
    found = dk.mc_predict(made(net, "line"), x, 6, task="regression")
    wanted = found.mean[:, 0] * raw["number"].std(ddof=0) + raw["number"].mean()
    np.testing.assert_allclose(pd.read_csv(points / "o.csv")["mean"], wanted, rtol=1e-4)
    some = points / "some.csv"
    pd.read_csv(kinds).query("kind == 'yes'").to_csv(some, index=False)  # one class alone does not tell the labels
    words = ["predict", f"{net}:two", "--data", str(some), "--target", "kind", "--passes", "4"]
    assert main(words) == 2
    assert "--like" in one_line(capsys, last=True)
    assert main([*words, "--like", str(kinds), "--out", str(points / "o.csv")]) == 0
    assert set(pd.read_csv(points / "o.csv")["target"]) == {"yes"}


@pytest.mark.parametrize("wrap", ["plain", "lightning", "parallel"])
def test_weights_are_loaded(net, points, wrap):
    model = made(net, "two")
    nn.init.constant_(model[2].weight, 1e-3)
    model[2].bias.data = torch.tensor([0.0, 20.0])
    state = {{"plain": "", "lightning": "model.", "parallel": "module."}[wrap] + key: value
             for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state} if wrap == "lightning" else state, points / "w.pt")
    assert main(["predict", f"{net}:two", "--data", str(points / "bare.csv"), "--task", "classification", "--passes", "3",
                 "--weights", str(points / "w.pt"), "--out", str(points / "o.csv")]) == 0
    assert (pd.read_csv(points / "o.csv")["p_1"] > 0.99).all()


def test_figures_are_written(net, points):
    assert main(["predict", f"{net}:two", "--data", str(points / "kinds.csv"), "--target", "kind", "--passes", "5", "--out",
                 str(points / "o.csv"), "--plots", str(points / "figures")]) == 0
    names = {"uncertainty_error.html", "reliability.html", "risk_coverage.html"}
    assert {file.name for file in (points / "figures").iterdir()} == names
    assert "AURC" not in (points / "o.csv").read_text()


def test_examples_come_from_arrays_too(net, points, capsys):
    x = pd.read_csv(points / "bare.csv").to_numpy()
    np.save(points / "x.npy", x)
    np.savez(points / "x.npz", x=x)
    outputs = []
    for name in ("bare.csv", "x.npy", "x.npz"):
        assert main(["predict", f"{net}:line", "--data", str(points / name), "--task", "regression", "--passes", "4"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    pd.read_csv(points / "kinds.csv").to_parquet(points / "kinds.parquet")
    for name in ("kinds.csv", "kinds.parquet"):
        assert main(["predict", f"{net}:two", "--data", str(points / name), "--target", "kind", "--passes", "4"]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[3] == outputs[4]


WRONG = {
    "no colon": (["net.py"], "a model is named as module:object"),
    "no such object": (["NET:nothing"], "holds the object that is named"),
    "not a model": (["NET:number"], "is a model or a function that returns one"),
    "no site": (["NET:bare"], "at least one site acts"),
    "rate out of range": (["NET:two", "--rate", "1.5"], "a probability of dropping"),
    "no pass": (["NET:two", "--passes", "0"], "there is at least one pass"),
    "no such glob": (["NET:two", "--where", "encoder.*"], "where matches a site"),
    "target among the features": (["NET:two", "--data", "DIR/numbers.csv"], "--target"),
    "another column": (["NET:two", "--target", "colour"], "the target is a column"),
    "no data of any kind": (["NET:two", "--data", "DIR/none", "--target", "a"], "a data file or folder exists"),
    "no rows": (["NET:two", "--data", "DIR/header.csv"], "no rows in header.csv"),
    "no data": (["NET:two", "--data", "DIR/none.csv"], "a data file exists"),
    "level": (["NET:line", "--level", "95"], "level is a probability"),
    "tau": (["NET:line", "--tau", "0"], "tau is a precision above 0"),
    "batch size": (["NET:line", "--batch-size", "0"], "a batch holds at least one example"),
    "format": (["NET:line", "--out", "DIR/o.xls"], "the result is a .csv"),
    "folder": (["NET:line", "--out", "DIR/no/o.csv"], "a file is written to a folder that exists"),
    "weights": (["NET:line", "--weights", "DIR/net.py"], "a file of weights holds tensors"),
    "no weights": (["NET:line", "--weights", "DIR/none.pt"], "the file of weights exists"),
    "part": (["NET:line", "--part", "test"], "`part` chooses among the parts"),
    "a file for a folder": (["NET:line", "--plots", "DIR/bare.csv"], "figures go into a folder"),
    "figures without targets": (["NET:line", "--plots", "DIR/f"], "figures of errors need targets"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_code_2(net, points, capsys, case):
    given, said = WRONG[case]
    words = [word.replace("NET", net).replace("DIR", str(points)) for word in given]
    more = [] if "--data" in words else ["--data", str(points / "bare.csv")]
    assert main(["predict", *words, *more, *([] if "--target" in words else ["--task", "regression"])]) == 2
    assert said in one_line(capsys)


def test_weights_of_another_model_are_told_apart(net, points, capsys):
    torch.save(made(net, "line").state_dict(), points / "w.pt")
    assert main(["predict", f"{net}:two", "--data", str(points / "bare.csv"), "--task", "classification", "--weights",
                 str(points / "w.pt")]) == 2
    assert "2.weight of shape (1, 8) for (2, 8)" in one_line(capsys)


def test_unknown_randomness_is_a_note_of_one_line(points, capsys):
    (points / "net.py").write_text("import torch\nfrom torch import nn\nclass Noisy(nn.Module):\n    def forward(self, x):\n"
                                   "        return x + torch.randn_like(x) if self.training else x\n"
                                   "def build():\n    return nn.Sequential(Noisy(), nn.Dropout(0.5), nn.Linear(2, 2))\n")
    torch.save(nn.Sequential(nn.Identity(), nn.Dropout(0.5), nn.Linear(2, 2)).state_dict(), points / "w.pt")
    assert main(["predict", f"{points / 'net.py'}:build", "--data", str(points / "bare.csv"), "--task", "classification",
                 "--weights", str(points / "w.pt"), "--out", str(points / "o.csv")]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(notes) == 1
    assert "do not act" in notes[0]


def test_weights_that_the_builder_draws_follow_the_seed_and_are_noted(points, capsys):
    (points / "net.py").write_text("from torch import nn\n"
                                   "def build():\n    return nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))\n")
    said = []
    for seed in (3, 3, 4):
        torch.seed()
        assert main(["predict", f"{points / 'net.py'}:build", "--data", str(points / "bare.csv"), "--task", "classification",
                     "--seed", str(seed)]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1]
    assert said[0].out != said[2].out
    assert [line for line in said[0].err.splitlines() if "note:" in line and "untrained" in line]


def one_line(capsys, last=False):
    said = capsys.readouterr().err.splitlines()
    assert last or len(said) == 1
    return said[-1]


@pytest.mark.slow
def test_a_killed_run_leaves_no_file(points):
    (points / "slow.py").write_text("import time\nfrom torch import nn\nclass Slow(nn.Module):\n"
                                    "    def __init__(self):\n        super().__init__()\n        self.drop = nn.Dropout(0.5)\n"
                                    "    def forward(self, x):\n        print('runs', flush=True)\n        time.sleep(0.5)\n"
                                    "        y = self.drop(x)\n"
                                    "        return y if y.sum() < 1e9 else x  # so that passes run in turn\n")
    out = points / "o.csv"
    run = subprocess.Popen([sys.executable, "-m", "dropkit", "predict", f"{points / 'slow.py'}:Slow", "--data",
                            str(points / "bare.csv"), "--task", "classification", "--passes", "1000", "--out", str(out)],
                           env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout.readline() == b"runs\n"
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"stopped" in said
    assert [file.name for file in points.iterdir() if file.name.startswith(("o.csv", ".o.csv"))] == []
