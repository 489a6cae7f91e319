"""Studies in this process: nothing of it shows afterwards, and what goes wrong inside is told."""

import random
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

import dropkit as dk
from dropkit.study import checkpoint
from dropkit.study.checkpoint import Place
from dropkit.study.data import load
from dropkit.study.engines.serial import Serial
from dropkit.study.ledger import read_failures
from dropkit.study.runner import RunError
from dropkit.study.worker import dump


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def study(out, data="iris", model=build, **options):
    return dk.study(dk.Experiment(data=data, model=model, epochs=2), out=out, engine="serial", seeds=2, fused=False, **options)


def states():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()


def test_the_callers_random_states_and_threads_are_left_alone(tmp_path):
    experiment = dk.Experiment(data="iris", model=build, epochs=1)
    engine = Serial(dump(experiment, None), Place(tmp_path, "hash", load("iris").digest))
    before = states()
    outcome = engine.submit(((0, 0),)).result()
    assert states() == before
    assert [run.arm for run in outcome.found] == ["none"]


def test_the_folder_is_left_tidy(tmp_path):
    assert study(tmp_path / "out", progress=False).provenance.engine == "serial"
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == [".lock", "ledger.sqlite", "progress", "result.json"]


def test_a_run_that_leaves_the_program_does_not_end_the_study(tmp_path):
    class Leaves(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = build(), 0

        def forward(self, x):
            self.calls += self.training
            if self.calls > 3 and self.net[2].p == 0.25:
                raise SystemExit("enough")
            return self.net(x)

    with pytest.raises(RunError, match="reduced, seed 0 failed: SystemExit: enough; reduced, seed 1 failed") as raised:
        study(tmp_path / "out", model=Leaves, progress=False)
    assert "4 runs are finished and kept" in str(raised.value)
    assert read_failures(tmp_path / "out") == {("reduced", seed): "SystemExit: enough" for seed in (0, 1)}


def test_data_that_reads_differently_each_time_is_told(tmp_path):
    class Noisy(Dataset):
        reads = 0

        def __len__(self):
            return 60

        def __getitem__(self, index):
            Noisy.reads += 1
            return torch.full((4,), float(Noisy.reads)), index % 3

    with pytest.raises(RunError, match="data reads alike in every process"):
        study(tmp_path / "out", data=Noisy(), progress=False)


def test_a_full_disk_is_told_on_standard_error(tmp_path, monkeypatch, capsys):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dropkit.core.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):  # the runs need no checkpoint, but the result has to be written
        study(tmp_path / "out", checkpoint_every=0)
    told = capsys.readouterr().err
    assert "note: no checkpoint of none, seed 0, could be written: OSError: [Errno 28] No space left on device" in told
    monkeypatch.undo()
    study(tmp_path / "out")
    assert "6 of 6 runs were finished before" in capsys.readouterr().err


_left = [0]  # training steps until Ctrl-C is pressed; 0 for never


def pressing(out, y):
    """The loss, with somebody at the keyboard."""
    _left[0] -= out.requires_grad
    if _left[0] == 0:
        signal.raise_signal(signal.SIGINT)
    return F.cross_entropy(out, y)


def test_ctrl_c_leaves_a_checkpoint_and_the_study_goes_on_from_it(tmp_path, monkeypatch):
    def begin(folder, left):
        _left[0] = left
        experiment = dk.Experiment(data="iris", model=build, epochs=3, batch_size=8, loss=pressing)
        return dk.study(experiment, out=tmp_path / folder, engine="serial", seeds=2, fused=False, progress=False)

    monkeypatch.setattr(checkpoint, "_LOOK", 0)  # seconds: after every step
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            begin("stopped", left=3 + 5)  # each arm is tried with one step before
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert [mark.step for mark in checkpoint.marks(tmp_path / "stopped")] == [5]
    assert begin("stopped", left=0).runs == begin("whole", left=0).runs
