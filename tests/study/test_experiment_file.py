"""Experiments written down in YAML."""

import sys
from pathlib import Path

import pytest
import torch

import dropkit as dk
from dropkit.core.errors import InputError, MissingExtraError
from dropkit.study.data import load
from dropkit.study.reference import find_experiment

NET = """
from torch import nn
from torch.nn import functional as F

def build(width=8, p=0.5):
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(p), nn.Linear(width, 3))

def loss(outputs, targets):
    return F.cross_entropy(outputs, targets)

def train(model, arm, seed):
    return {"test": 1.0}
"""


@pytest.fixture
def write(tmp_path):
    folder = tmp_path / "a project"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text("a,b,kind\n" + "".join(f"{n},{n % 5},{'xyz'[n % 3]}\n" for n in range(30)))

    def file(text, name="exp.yaml"):
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return file


def test_every_field_is_read_and_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write("""
        data: {train: train.csv, test: test.csv}
        model: net.py:build
        arguments: {width: 16}
        rates: {p: 0.3}
        target: kind
        loss: net.py:loss
        metric: nll
        optimizer: sgd
        lr: 1e-2
        weight_decay: 1.0e-4
        margin: 5e-3
        epochs: 3
        batch_size: 16
        test_seed: 1
    """)
    found = find_experiment(str(file.relative_to(tmp_path)))
    assert Path(found.data["test"]) == file.parent.resolve() / "test.csv"
    assert found.model(p=0.25)[0].out_features == 16
    assert (found.rates, found.target, found.loss.__name__, found.metric) == ({"p": 0.3}, "kind", "loss", "nll")
    assert (found.optimizer, found.lr, found.weight_decay, found.margin) == ("sgd", 0.01, 1e-4, 5e-3)
    assert (found.epochs, found.batch_size, found.test_seed, found.name) == (3, 16, 1, "exp")
    data = load(found.data, target=found.target)
    assert (len(data.x_train), len(data.x_test), data.x_val, data.classes) == (30, 30, None, ("x", "y", "z"))


def test_numbers_with_an_exponent_are_numbers_everywhere(write):
    found = find_experiment(str(write("data: iris\nmodel: net.py:build\nrates: {p: 3e-1}\narguments: {width: 8}\nlr: 1E-2\n"
                                      "margin: +5e-3\nname: 1e-3 and more\n")))
    assert (found.rates, found.lr, found.margin, found.name) == ({"p": 0.3}, 0.01, 0.005, "1e-3 and more")


def test_what_the_command_line_gives_goes_first(write):
    found = find_experiment(str(write("data: digits\nepochs: 3\nname: mine\n", "e.yml")), epochs=2, data=None, lr=0.5)
    assert (found.data, found.epochs, found.lr, found.name) == ("digits", 2, 0.5, "mine")
    assert find_experiment(str(write("epochs: 3\n")), data="iris").data == "iris"


def test_a_training_function_is_named(write):
    found = find_experiment(str(write("model: net.py:build\ntrain: net.py:train\nmetric: accuracy\n")))
    assert found.train(None, None, 0) == {"test": 1.0}


def test_an_object_of_a_module_beside_the_file(write, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = write("data: iris\nmodel: dropkit_yaml_test_net:build\n")
    (file.parent / "net.py").rename(file.parent / "dropkit_yaml_test_net.py")
    assert find_experiment(str(file)).model().__class__ is torch.nn.Sequential


def test_a_study_of_a_file_is_that_of_the_same_experiment(write, tmp_path):
    file = write("data: {train: train.csv, test: test.csv}\nmodel: net.py:build\nepochs: 2\n")
    one = dk.study(str(file), seeds=2, out=tmp_path / "one", jobs=1, progress=False)
    code = find_experiment(f"{file.parent / 'net.py'}:build", data=find_experiment(str(file)).data, epochs=2, name="exp")
    other = dk.study(code, seeds=2, out=tmp_path / "other", engine="serial", fused=False, progress=False)
    assert one.summary == other.summary
    assert [run.test_metric for run in one.runs] == pytest.approx([run.test_metric for run in other.runs])


@pytest.mark.parametrize(("text", "said"), [
    ("data: digits\nepoch: 3\n", r"fields of an experiment; got 'epoch'. Did you mean 'epochs'"),
    ("data: digits\nseeds: 3\n", "got 'seeds'. Leave it out, and pass seeds to the study, as --seeds"),
    ("data: digits\ndata: iris\n", "data comes twice"),
    ("data: [digits\n", "an experiment's file is YAML; got exp.yaml: while parsing"),
    ("", "maps the fields of an experiment to values; got nothing"),
    ("- digits\n", "got list"),
    ("data: digits\nmodel: 3\n", "model is named as module:object"),
    ("data: digits\nmodel: net.py\n", "module:object"),
    ("data: digits\nmodel: none.py:build\n", "the file before the colon exists"),
    ("data: digits\nmodel: net.py:nothing\n", "holds the object that is named; got 'nothing'"),
    ("data: digits\narguments: {width: 3}\n", "no model in exp.yaml"),
    ("data: digits\nmodel: net.py:build\narguments: 3\n", "`arguments` maps"),
    ("data: digits\nmodel: net.py:build\narguments: {depth: 3}\n", "got an unexpected keyword argument 'depth'"),
    ("data: digits\ntest_seed: 2026-99-99\n", "an experiment's file is YAML; got exp.yaml: month must be"),
    ("a: " + 3000 * "[", "an experiment's file is YAML"),
    ("data: iris\nmodel: net.py:build\nrates: {p: 0.3}\narguments: {p: 0.2}\n", "or a value for all of them; got 'p'"),
    ("data: digits\nepochs: many\n", "epochs is a whole number"),
    ("data: digits\nlr: fast\n", "lr is a finite number above 0; got 'fast'"),
    ("data: digits\nloss: hinge\n", "loss is one of"),
    ("data: 3\n", "data is a name, a path"),
    ("data: none.csv\n", "a data file or folder exists"),
    ("data: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
])
def test_what_is_wrong_in_a_file_is_told_in_a_line(write, text, said):
    with pytest.raises(InputError, match=said) as caught:
        load(find_experiment(str(write(text))).data)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(InputError, match="an experiment's file exists"):
        find_experiment(str(tmp_path / "none.yaml"))


def test_without_pyyaml_the_extra_is_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"dropkit\[study\]"):
        find_experiment(str(write("data: digits\n")))


@pytest.mark.parametrize(("parts", "said"), [
    ({"train": "train.csv", "test": (torch.zeros(3, 2), torch.zeros(3))}, "all parts are files, or none is"),
    ({"train": "train.csv", "test": "turned.csv"}, "columns of the training part, in its order; got b, a in test"),
])
def test_parts_that_do_not_go_together(write, monkeypatch, parts, said):
    monkeypatch.chdir(write("").parent)
    Path("turned.csv").write_text("b,a,kind\n1,2,x\n")
    with pytest.raises(InputError, match=said):
        load(parts)
