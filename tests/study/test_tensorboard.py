"""What TensorBoard reads back is what was measured."""

import dataclasses
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError, MissingExtraError
from dropkit.study.prepare import prepare
from dropkit.study.tensorboard import Board, board_in
from dropkit.study.training import train


@pytest.fixture(scope="module")
def trained():
    ready = prepare(dk.Experiment(data="iris", epochs=3, batch_size=16, model=lambda: nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))))
    return train(ready, ready.arms[2], 1)


def read(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def single(values, epochs):
    return [(epoch, pytest.approx(value, rel=1e-6, abs=1e-30)) for epoch, value in zip(epochs, values, strict=True)]


def test_history_instruments_and_scores_are_scalars(trained, tmp_path):
    Board(tmp_path).write(trained)
    found = read(tmp_path / "intended-seed-1")
    assert found["history/val_loss"] == single(trained.history["val_loss"], [1, 2, 3])
    assert found["instruments/data_noise"] == single(trained.instruments["data_noise"], [1, 2, 3])
    assert found["gradient_norm/0"] == single(trained.instruments["gradient_norm"]["0"], [1, 2, 3])
    assert found["score/test_metric"] == single([trained.test_metric], [3])
    assert {tag.partition("/")[0] for tag in found} >= {"history", "instruments", "score", "dead", "ablation_50"}


def test_a_run_is_written_once_and_gaps_are_left_out(trained, tmp_path):
    board = Board(tmp_path)
    board.write(trained)
    gap = dataclasses.replace(trained, history={**trained.history, "val_loss": [1.0, None, 3.0]})
    board.catch_up([gap])
    assert len(read(board.place(trained))["history/val_loss"]) == 3  # there already: left alone
    board.write(gap)
    assert read(board.place(trained))["history/val_loss"] == [(1, 1.0), (3, 3.0)]
    assert len(list(board.place(trained).iterdir())) == 1


@pytest.mark.parametrize("name", ["a/b", "..", "läufe: 50 %", "../../out"])
def test_any_arm_name_is_a_folder_inside(name, trained, tmp_path):
    place = Board(tmp_path).place(dataclasses.replace(trained, arm=name))
    assert place.parent == tmp_path
    assert ".." not in place.parts


def test_where_the_board_lies(tmp_path, monkeypatch):
    assert board_in(False, tmp_path) is None
    assert board_in(True, tmp_path).folder == tmp_path / "tensorboard"
    assert board_in(str(tmp_path / "tb"), tmp_path).folder == tmp_path / "tb"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="tensorboard is a folder"):
        board_in(tmp_path / "file", tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"dropkit\[tensorboard\]"):
        board_in(True, tmp_path)


@pytest.mark.slow
def test_a_study_writes_each_finished_run_also_those_of_before(tmp_path):
    experiment = dk.Experiment(data="iris", epochs=1, model=lambda: nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 3)))
    arms = {"none": 0.0, "intended": 1.0}
    first = dk.study(experiment, arms=arms, seeds=[0], out=tmp_path / "out", jobs=1, progress=False)
    result = dk.study(experiment, arms=arms, seeds=[0, 1], out=tmp_path / "out", jobs=1, progress=False, tensorboard=True)
    places = sorted(place.name for place in (tmp_path / "out" / "tensorboard").iterdir())
    assert places == [f"{arm}-seed-{seed}" for arm in ("intended", "none") for seed in (0, 1)]
    assert [run for run in result.runs if run.seed == 0] == first.runs
    assert any(note.startswith("Time in dropout: ") for note in result.provenance.notes)
    for run in result.runs:
        found = read(tmp_path / "out" / "tensorboard" / f"{run.arm}-seed-{run.seed}")
        assert found["history/val_loss"] == single(run.history["val_loss"], [1])
