"""A run that goes on from a checkpoint ends as one that was left in peace, to the bit; what cannot be used is not used."""

import errno
import io
import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.study import checkpoint
from dropkit.study.checkpoint import Keeper, Place, Stopped, load, marks, save
from dropkit.study.prepare import prepare
from dropkit.study.session import Session
from dropkit.study.training import train

STEPS = 6  # an epoch: 90 training examples in batches of 16


class Net(nn.Module):
    """Everything a run may depend on: running statistics, a buffer that is not saved, and three sources of chance."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
            x = x + 0.1 * (torch.rand(()) + random.random() + np.random.rand() + self.calls / 10)
        return self.body(x)


def experiment(**fields):
    return prepare(dk.Experiment(data="iris", epochs=2, batch_size=16, **{"model": Net, **fields}), check=False)


@pytest.fixture(scope="module")
def ready():
    return experiment()


def place_in(folder, every=0.0):
    (folder / "progress").mkdir(exist_ok=True)
    return Place(folder, "hash", "data", every)


class StopsAfter(Keeper):
    """Stops the run after so many calls, one a step and one an epoch, as a driver would."""

    def __init__(self, place, calls):
        super().__init__(place)
        self.left = calls

    def __call__(self, session):
        self.left -= 1
        if self.left == 0:
            self.place.stop.touch()
        super().__call__(session)


def interrupted(ready, folder, calls):
    place = place_in(folder)
    with pytest.raises(Stopped):
        train(ready, ready.arms[2], 3, keeper=StopsAfter(place, calls))
    place.stop.unlink()
    random.seed(99), np.random.seed(99), torch.manual_seed(99)  # another process has other random states
    keeper = Keeper(place)
    return train(ready, ready.arms[2], 3, keeper=keeper), keeper


@pytest.mark.parametrize("calls", [1, 3, STEPS, STEPS + 1, STEPS + 4, 2 * STEPS + 1])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(calls, ready, tmp_path):
    run, keeper = interrupted(ready, tmp_path, calls)
    assert run == train(ready, ready.arms[2], 3)
    assert keeper.notes == []


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adamw", lambda parameters: torch.optim.NAdam(parameters, lr=0.01)])
def test_every_optimiser_goes_on(optimizer, tmp_path):
    ready = experiment(optimizer=optimizer)
    assert interrupted(ready, tmp_path, 4)[0] == train(ready, ready.arms[2], 3)


def test_lazy_layers_and_regression_go_on(tmp_path):
    ready = prepare(dk.Experiment(data="diabetes", epochs=2, model=lambda: nn.Sequential(
        nn.LazyLinear(8), nn.ReLU(), nn.Dropout(0.5), nn.LazyLinear(1))), check=False)
    assert interrupted(ready, tmp_path, 3)[0] == train(ready, ready.arms[2], 3)


@pytest.mark.parametrize("calls", [1, STEPS, STEPS + 2, 2 * STEPS, 3 * STEPS + 1])
def test_an_ensemble_that_stops_early_goes_on(calls, tmp_path):
    ready = prepare(dk.Experiment(data="iris", epochs=6, batch_size=16, model=Net, lr=0.1),
                    "none,intended,intended+members=2+early_stopping=1", check=False)
    assert interrupted(ready, tmp_path, calls)[0] == train(ready, ready.arms[2], 3)


def test_a_run_goes_on_where_it_was_and_does_not_begin_anew(ready, tmp_path):
    place = place_in(tmp_path)
    with pytest.raises(Stopped):
        train(ready, ready.arms[2], 3, keeper=StopsAfter(place, STEPS + 3))
    assert [(mark.arm, mark.seed, mark.epoch, mark.step) for mark in marks(tmp_path)] == [("intended", 3, 1, STEPS + 2)]
    session = Keeper(place).begin(ready, ready.arms[2], 3)
    assert (session.epoch, session.step, len(session.losses), len(session.history["val_loss"])) == (1, STEPS + 2, 2, 1)


def test_what_a_recipe_keeps_is_kept(ready, tmp_path):
    session = Session(ready, ready.arms[0], 0)
    session.kept = {"best": {"weight": torch.ones(2)}, "waited": 3}
    save(place_in(tmp_path), session)
    kept = Keeper(place_in(tmp_path)).begin(ready, ready.arms[0], 0).kept
    assert kept["waited"] == 3
    assert torch.equal(kept["best"]["weight"], torch.ones(2))


def other_experiment(file):
    file.write_bytes(file.read_bytes().replace(b'"hash"', b'"hush"'))


def other_run(file):
    file.write_bytes(file.read_bytes().replace(b'"seed": 3', b'"seed": 4'))


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)


def replace(file):
    file.write_bytes(b"a poem\nof two lines")


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [other_experiment, other_run, truncate, flip_a_bit, replace, empty])
def test_a_damaged_or_foreign_checkpoint_is_not_used(harm, ready, tmp_path):
    place = place_in(tmp_path)
    with pytest.raises(Stopped):
        train(ready, ready.arms[2], 3, keeper=StopsAfter(place, 4))
    place.stop.unlink()
    harm(place.checkpoint(ready.arms[2], 3))
    keeper = Keeper(place)
    assert train(ready, ready.arms[2], 3, keeper=keeper) == train(ready, ready.arms[2], 3)
    assert len(keeper.notes) == 1
    assert "the checkpoint of intended, seed 3, was not used and the run began anew: ValueError: it" in keeper.notes[0]


def test_pickled_code_is_not_run(ready, tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    place, real = place_in(tmp_path), Session.state
    monkeypatch.setattr(Session, "state", lambda session: {**real(session), "kept": Evil()})
    save(place, Session(ready, ready.arms[0], 0))
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        load(place, ready.arms[0], 0)
    assert not (tmp_path / "ran").exists()


def test_a_state_that_does_not_fit_leaves_no_trace(ready, tmp_path):
    """The model's part is restored before the optimiser's is found not to fit: the run must not go on with a half of each."""
    place, session = place_in(tmp_path), Session(ready, ready.arms[2], 3)
    session.run_epoch()
    session.optimizer = torch.optim.SGD([next(session.model.parameters())], lr=0.1)
    save(place, session)
    keeper = Keeper(place)
    assert train(ready, ready.arms[2], 3, keeper=keeper) == train(ready, ready.arms[2], 3)
    assert "began anew" in keeper.notes[0]


def test_on_a_full_disk_the_run_goes_on_and_the_last_checkpoint_stays(ready, tmp_path, monkeypatch):
    place = place_in(tmp_path)
    save(place, Session(ready, ready.arms[2], 3))
    before = place.checkpoint(ready.arms[2], 3).read_bytes()

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dropkit.core.files.os.fsync", full)
    keeper = Keeper(place)
    assert train(ready, ready.arms[2], 3, keeper=keeper) == train(ready, ready.arms[2], 3)
    assert keeper.notes == ["no checkpoint of intended, seed 3, could be written: OSError: [Errno 28] No space left on device"]
    assert [file.read_bytes() for file in (tmp_path / "checkpoints").iterdir()] == [before]


def test_checkpoints_are_as_rare_as_asked_and_rarer_where_they_are_slow(ready, tmp_path, monkeypatch):
    clock, saved = itertools.count(), []  # a second passes with every look at the clock
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(checkpoint, "save", lambda place, session: saved.append(session.step))
    train(ready, ready.arms[2], 3, keeper=Keeper(place_in(tmp_path, every=5.0)))
    assert saved == [5]  # it took a second, and the next is not due for twenty


def test_bodies_are_plain_tensors_and_numbers(ready):
    body = io.BytesIO()
    torch.save(Session(ready, ready.arms[0], 0).state(), body)
    body.seek(0)
    assert torch.load(body, weights_only=True)["step"] == 0
