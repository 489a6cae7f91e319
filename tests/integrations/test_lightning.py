"""A LightningModule in a study: Lightning trains it, dropkit pairs, scores and judges it."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.prepare import prepare
from dropkit.study.training import train

lightning = pytest.importorskip("lightning.pytorch")


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        self.seen = []

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, index):
        x, y = batch
        self.seen.append((x.sum().item(), self.training))
        return F.cross_entropy(self(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Validated(Net):
    validated = 0

    def validation_step(self, batch, index):
        assert not self.training
        type(self).validated += len(batch[1])


def ready_for(model=Net, epochs=2, **fields):
    return prepare(dk.Experiment(data="iris", model=model, epochs=epochs, batch_size=16, **fields))


def spied(monkeypatch):
    """Keep the model of each run that is trained."""
    from dropkit.integrations import lightning as place
    models, fit = [], place.fit
    monkeypatch.setattr(place, "fit", lambda session, after: (models.append(session.model), fit(session, after))[1])
    return models


def test_a_run_is_trained_scored_and_repeats_to_the_bit():
    ready, told = ready_for(epochs=3), []
    run = train(ready, ready.arm("intended"), 1, lambda epoch, loss: told.append(epoch))
    assert told == [1, 2, 3]
    assert run.status == "finished"
    assert {len(values) for values in run.history.values()} == {3}
    assert run.history["train_eval_loss"][-1] < run.history["train_eval_loss"][0]
    torch.manual_seed(5)
    assert train(ready, ready.arm("intended"), 1) == run
    assert train(ready, ready.arm("intended"), 2) != run


def test_arms_see_the_same_batches_in_training_mode(monkeypatch):
    models, ready = spied(monkeypatch), ready_for()
    for arm in ready.arms:
        train(ready, arm, 0)
    assert models[0].seen == models[1].seen == models[2].seen
    assert len(models[0].seen) == 2 * 6  # 90 examples, 16 a batch, two epochs
    assert all(mode for _, mode in models[0].seen)
    assert [model.net[3].p for model in models] == [0.0, 0.25, 0.5]


def test_at_rate_zero_both_modes_agree_without_batch_norm():
    class Plain(Net):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    ready = ready_for(Plain)
    run = train(ready, ready.arm("none"), 0)
    assert run.history["train_loss"] == run.history["train_eval_loss"]
    assert train(ready, ready.arm("intended"), 0).history["train_loss"] != run.history["train_loss"]


def test_a_validation_step_gets_the_validation_part():
    Validated.validated = 0
    ready = ready_for(Validated)
    train(ready, ready.arms[0], 0)
    assert Validated.validated == 2 * 30


def test_scoring_leaves_running_statistics_alone(monkeypatch):
    from dropkit.integrations import lightning as place
    models = spied(monkeypatch)
    ready = ready_for()
    train(ready, ready.arm("none"), 0)
    monkeypatch.setattr(place, "_in_training_mode", lambda session: (0.0, 0.0))
    train(ready, ready.arm("none"), 0)
    assert torch.equal(models[0].net[1].running_mean, models[1].net[1].running_mean)
    assert models[0].net[1].num_batches_tracked == 12


def test_lightning_says_nothing(capfd, monkeypatch):
    before = logging.getLogger("lightning.pytorch").level
    ready = ready_for()
    train(ready, ready.arms[0], 0)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("lightning.pytorch").level == before


def test_a_diverged_run_ends_early():
    class Wild(Net):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e30)
    ready = ready_for(Wild, epochs=9)
    run = train(ready, ready.arms[2], 0)
    assert run.status == "diverged"
    assert len(run.history["train_loss"]) < 9


def test_what_only_dropkits_loop_does_is_refused():
    with pytest.raises(InputError, match="an arm changes rates and model"):
        prepare(dk.Experiment(data="iris", model=Net, epochs=2), {"none": 0.0, "stop": dk.arm(1.0, early_stopping=2)})


@pytest.mark.slow
def test_a_study_of_a_lightning_module(tmp_path):
    experiment = dk.Experiment(data="iris", model=Net, epochs=2)
    result = dk.study(experiment, seeds=2, out=tmp_path / "out", engine="serial", progress=False)
    assert len(result.runs) == 6
    assert result.report().exists()
