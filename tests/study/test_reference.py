"""Experiments are found by name."""

import pytest

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.reference import find_experiment

SOURCE = """
import dropkit as dk
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(*build())

def needs(width):
    return build()

def make():
    return dk.Experiment(data="iris", model=build, epochs=3)

def breaks():
    raise RuntimeError("no such thing")

experiment = dk.Experiment(data="iris", model=build, epochs=5, name="mine")
instance = build()
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.py"
    path.write_text(SOURCE)
    return path


def test_an_embedded_set_by_name():
    experiment = find_experiment("digits", epochs=3)
    assert (experiment.data, experiment.epochs, experiment.name) == ("digits", 3, "digits")


def test_objects_of_a_file(file):
    assert find_experiment(f"{file}:experiment").epochs == 5
    assert find_experiment(f"{file}:experiment").name == "mine"
    assert find_experiment(f"{file}:make").name == "make"
    assert find_experiment(f"{file}:build", data="iris").model.__name__ == "build"
    assert find_experiment(f"{file}:Net", data="iris").model.__name__ == "Net"


def test_options_replace_fields(file):
    assert find_experiment(f"{file}:experiment", epochs=2, lr=None).epochs == 2


def test_objects_of_a_module(file, monkeypatch):
    file.rename(file.with_name("dropkit_reference_test_module.py"))
    monkeypatch.chdir(file.parent)
    monkeypatch.syspath_prepend(str(file.parent))
    assert find_experiment("dropkit_reference_test_module:experiment").epochs == 5


@pytest.mark.parametrize(("reference", "words"), [
    ("", "named by text"),
    (" ", "named by text"),
    ("{file}:nothing", "nothing"),
    ("{file}:instance", "Sequential"),
    ("{file}:build", "--data"),
    ("{file}:needs", "missing 1 required positional argument: 'width'"),
    ("{file}:breaks", "RuntimeError: no such thing"),
    ("{folder}/missing.py:experiment", "Check the path"),
    ("no_such_module_anywhere:experiment", "no_such_module_anywhere"),
    (":experiment", "can be imported"),
])
def test_what_is_not_there_is_named(file, reference, words):
    with pytest.raises(InputError) as caught:
        find_experiment(reference.format(file=file, folder=file.parent))
    assert words in str(caught.value)


def test_a_file_that_cannot_be_imported(tmp_path):
    (tmp_path / "broken.py").write_text("import this_module_does_not_exist")
    with pytest.raises(InputError, match="this_module_does_not_exist"):
        find_experiment(f"{tmp_path / 'broken.py'}:experiment")


def test_a_builder_with_required_arguments_is_told_so_when_data_is_given(file):
    with pytest.raises(InputError, match="Give its other arguments defaults"):
        find_experiment(f"{file}:needs", data="iris")


def test_experiment_is_public():
    assert isinstance(find_experiment("wine"), dk.Experiment)
