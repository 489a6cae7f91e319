"""A run is a function of (experiment, arm, seed), paired over arms, scored in the targets' own unit."""

import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.study.prepare import prepare
from dropkit.study.session import batches
from dropkit.study.training import train


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def classification(**fields):
    return prepare(dk.Experiment(data="iris", model=build, epochs=3, batch_size=16, **fields))


def regression(scale=1.0, **fields):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=generator)
    y = (x.sum(1) + 0.1 * torch.randn(120, generator=generator)) * scale
    return prepare(dk.Experiment(
        data=(x, y), model=lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1)),
        epochs=30, lr=0.01, **fields))


def test_a_run_repeats_to_the_bit_and_depends_on_its_seed():
    ready = classification()
    torch.manual_seed(1)
    first = train(ready, ready.arms[2], 5)
    torch.manual_seed(2)
    assert train(ready, ready.arms[2], 5) == first
    assert train(ready, ready.arms[2], 6) != first


def test_arms_see_the_same_batches_in_the_same_order():
    seen = {}

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = build()

        def forward(self, x):
            seen.setdefault("now", []).append(x.sum().item())
            return self.net(x)

    ready = prepare(dk.Experiment(data="iris", model=Spy, epochs=2, batch_size=16))
    orders = []
    for arm in ready.arms:
        seen.clear()
        train(ready, arm, 0)
        orders.append(seen["now"])
    assert orders[0] == orders[1] == orders[2]


def test_at_rate_zero_training_mode_and_evaluation_mode_agree():
    """With nothing dropped the last batch's loss in both modes is the same network's; over an epoch they are close."""
    ready = classification(lr=1e-9)  # the weights stand still, so both passes see the same network
    none, _, intended = (train(ready, arm, 0) for arm in ready.arms)
    assert none.train_loss == pytest.approx(none.train_eval_loss, rel=1e-4)
    assert none.train_metric == none.train_eval_metric
    assert intended.train_loss != pytest.approx(intended.train_eval_loss, rel=1e-3)


def test_history_has_a_value_an_epoch_and_ends_in_the_fields():
    ready = classification()
    run = train(ready, ready.arms[0], 0)
    assert {len(values) for values in run.history.values()} == {3}
    assert all(values[-1] == getattr(run, name) for name, values in run.history.items())
    assert run.gap == pytest.approx(run.train_eval_metric - run.test_metric)
    assert sum(bar.count for bar in run.reliability) == 30


def test_progress_is_reported_for_each_epoch():
    ready, told = classification(), []
    train(ready, ready.arms[0], 0, lambda epoch, loss: told.append((epoch, math.isfinite(loss))))
    assert told == [(1, True), (2, True), (3, True)]


def test_a_diverged_run_is_an_outcome_scored_as_the_constant_prediction():
    ready = classification(optimizer="sgd", lr=1e30)
    run = train(ready, ready.arms[0], 0)
    assert run.status == "diverged"
    assert run.train_loss is None
    assert run.test_metric == pytest.approx(1 / 3, abs=0.04)  # iris has three classes of fifty
    assert run.gap is None


def test_regression_is_scored_in_the_targets_own_unit():
    small, large = (train(ready, ready.arms[0], 0) for ready in (regression(), regression(scale=1000.0)))
    assert small.test_metric < 0.5  # far below the targets' spread of 2
    assert large.test_metric == pytest.approx(1000 * small.test_metric, rel=1e-2)
    assert large.nll == pytest.approx(small.nll + math.log(1000), rel=1e-2)
    assert (small.brier, small.ece, small.reliability) == (None, None, None)
    assert small.gap == pytest.approx(small.test_metric - small.train_eval_metric)


def test_a_diverged_regression_scores_like_the_mean():
    ready = regression(optimizer="sgd")
    run = train(prepare(dk.Experiment(data=ready.experiment.data, model=ready.experiment.model, optimizer="sgd", lr=1e30,
                                      epochs=2)), ready.arms[0], 0)
    assert run.status == "diverged"
    assert run.test_metric == pytest.approx(2.0, rel=0.5)  # the targets' standard deviation


def test_one_dimensional_outputs_do_not_broadcast():
    ready = regression()
    flat = prepare(dk.Experiment(
        data=ready.experiment.data, epochs=30, lr=0.01,
        model=lambda: nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1), nn.Flatten(0))))
    assert train(flat, flat.arms[0], 0).test_metric == train(ready, ready.arms[0], 0).test_metric


def test_the_callers_rng_is_left_alone_by_preparing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    classification()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_last_batch_of_one_is_left_out():
    sizes = [len(batch) for batch in batches(17, 8, torch.Generator().manual_seed(0))]
    assert sizes == [8, 8]
    assert [len(batch) for batch in batches(3, 1, torch.Generator().manual_seed(0))] == [1, 1, 1]
