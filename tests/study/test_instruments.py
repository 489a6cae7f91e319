"""Each instrument against what it must read by construction, and what reading leaves behind: nothing."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.study import instruments
from dropkit.study.arms import build_arm
from dropkit.study.instruments import early_slope, epochs_to_measure, measure
from dropkit.study.instruments_subject import Subject
from dropkit.study.instruments_time import time_in_dropout
from dropkit.study.prepare import prepare
from dropkit.study.training import train


def ready_for(model, n=200, width=6, task="classification", **fields):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, width, generator=generator)
    y = (x[:, 0] > 0).long() if task == "classification" else x.sum(1)
    return prepare(dk.Experiment(**{"data": (x, y), "model": model, "batch_size": 16, "epochs": 2, **fields}))


def read(model, arm=-1, seed=0, step=3, **fields):
    """The instruments on the untrained network of an arm, the last by default."""
    ready = ready_for(model, **fields)
    network = build_arm(ready.experiment, ready.builder, ready.arms[arm], seed=0)
    return measure(ready, network, ready.part(seed), seed, step)


def net(*between, last=2):
    return nn.Sequential(nn.Linear(6, 8), *between, nn.Linear(8, last))


def with_dropout(p=0.5):
    return lambda: net(nn.ReLU(), nn.Dropout(p))


class Functional(nn.Module):
    """Dropout by a call of torch's function, in the modes that ``on`` names."""

    on = staticmethod(lambda module: module.training)

    def __init__(self, p=0.5):
        super().__init__()
        self.p, self.first, self.last = p, nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(F.dropout(F.relu(self.first(x)), self.p, training=self.on(self)))


class AlwaysOn(Functional):
    on = staticmethod(lambda module: True)


def test_a_network_is_left_as_it_was_and_so_is_the_random_state():
    ready = ready_for(lambda: net(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)))
    network = build_arm(ready.experiment, ready.builder, ready.arms[2], seed=0).train()
    network[1].eval()
    network[0].weight.grad = torch.full_like(network[0].weight, 7.0)
    kept = {name: x.clone() for name, x in network.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    measure(ready, network, ready.part(0), 0, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(x, kept[name]) for name, x in network.state_dict().items())
    assert [module.training for module in network] == [True, False, True, True, True]
    assert torch.equal(network[0].weight.grad, torch.full((8, 6), 7.0))
    assert network[4].weight.grad is None
    assert not network[0]._forward_pre_hooks
    assert not network[0]._backward_hooks


def test_reading_is_a_function_of_its_arguments():
    ready = ready_for(Functional, rates={"p": 0.5})
    network = build_arm(ready.experiment, ready.builder, ready.arms[2], seed=0)
    torch.manual_seed(1)
    first = measure(ready, network.train(), ready.part(0), 0, 3)
    torch.manual_seed(2)
    with dk.keyed(99):
        assert measure(ready, network.eval(), ready.part(0), 0, 3) == first
    assert measure(ready, network, ready.part(0), 0, 4)["mask_noise"] != first["mask_noise"]
    json.dumps(first, allow_nan=False)


def test_a_measured_run_trains_as_if_it_was_not_looked_at(monkeypatch):
    ready = ready_for(Functional, rates={"p": 0.5}, epochs=3)
    looked_at = train(ready, ready.arms[2], 0)
    monkeypatch.setattr(instruments, "measure", lambda *arguments: {})
    alone = train(ready, ready.arms[2], 0)
    assert alone.instruments == {}
    assert (alone.history, alone.test_loss) == (looked_at.history, looked_at.test_loss)
    assert looked_at.instruments["epoch"] == epochs_to_measure(3) == [1, 2, 3]
    assert looked_at.instruments["early_slope"] == early_slope(alone.history["train_eval_loss"])


def test_the_gradient_norm_is_that_of_the_mean_over_four_batches():
    ready = ready_for(with_dropout())
    network = build_arm(ready.experiment, ready.builder, ready.arms[0], seed=0)  # nothing is dropped
    found = measure(ready, network, ready.part(0), 0, 3)
    subject = Subject(ready, network, ready.part(0), 0, 3)
    assert subject.batches == [slice(0, 16), slice(16, 32), slice(32, 48), slice(48, 64)]
    gradients = []
    for batch in subject.batches:
        network.zero_grad()
        F.cross_entropy(network(subject.x[batch]), subject.y[batch]).backward()
        gradients.append(torch.cat([x.grad.flatten() for x in network.parameters()]).double())
    each = torch.stack(gradients)
    mean = each.mean(0)
    assert math.hypot(*found["gradient_norm"].values()) == pytest.approx(float(mean.norm()), rel=1e-5)
    assert list(found["gradient_norm"]) == ["0", "3"]
    noise = float(each.var(0).sum() / mean.square().sum())
    assert found["data_noise"] == pytest.approx(noise, rel=1e-4)
    assert found["mask_noise"] == 0.0


def test_mask_noise_grows_with_the_rate():
    noises = [read(with_dropout(p))["mask_noise"] for p in (0.01, 0.2, 0.7)]
    assert 0 < noises[0] < noises[1] < noises[2]


def test_units_that_are_always_negative_are_dead_and_without_gradient():
    def build():
        network = net(nn.ReLU(), nn.Dropout(0.5))
        with torch.no_grad():
            network[0].bias[:6] = -1e3
        return network

    found = read(build)
    assert found["dead"] == {"3": 0.75}
    assert found["no_gradient"] == {"0": 0.75, "3": 0.0}


def test_one_unit_copied_is_one_dimension_and_ablating_all_its_copies_matters():
    def build():
        network = net(nn.ReLU(), nn.Dropout(0.5))
        with torch.no_grad():
            network[0].weight[:] = network[0].weight[:1].clone()
            network[0].bias.zero_()
        return network

    found = read(build)
    assert found["effective_rank"]["3"] == pytest.approx(1.0, abs=1e-4)
    assert found["correlation"]["3"] == pytest.approx(1.0, abs=1e-4)


def test_independent_units_have_full_rank():
    def build():
        network = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 2))
        with torch.no_grad():
            network[0].weight.copy_(torch.eye(6))
        return network

    found = read(build, n=2000)  # 128 standard normal rows of six: correlations of about 1 / 11
    assert found["effective_rank"]["2"] > 5.5
    assert found["correlation"]["2"] < 0.12


def test_ablation_is_the_rise_of_the_loss_without_the_units():
    def build():
        network = net(nn.ReLU(), nn.Dropout(0.5))
        with torch.no_grad():
            network[3].weight.zero_()  # the last layer reads nothing: no unit matters
        return network

    assert {read(build)[f"ablation_{share}"]["3"] for share in (25, 50, 75)} == {0.0}
    moved = read(with_dropout())
    assert all(moved[f"ablation_{share}"]["3"] != 0 for share in (25, 50, 75))


def test_what_is_random_in_evaluation_shows_and_batch_norm_does_not():
    assert read(AlwaysOn, rates={"p": 0.5})["evaluation_noise"] > 0.1
    assert read(AlwaysOn, arm=0, rates={"p": 0.5})["evaluation_noise"] == 0.0
    assert read(Functional, rates={"p": 0.5})["evaluation_noise"] == 0.0
    assert read(lambda: net(nn.BatchNorm1d(8), nn.Dropout(0.5)))["evaluation_noise"] == 0.0


def test_dropout_on_the_output_shows_and_elsewhere_does_not():
    found = read(lambda: nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.3)))["output_zeros"]
    assert 0.2 < found < 0.4  # of 640 outputs: more than five standard deviations either way
    assert read(with_dropout(0.9))["output_zeros"] == 0.0
    assert read(lambda: nn.Sequential(*net(nn.Dropout(0.3)), nn.ReLU()))["output_zeros"] is None


def test_the_variance_shift_behind_dropout_of_centred_values_is_one_over_keep():
    def build():
        network = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.BatchNorm1d(6), nn.Linear(6, 2))
        with torch.no_grad():
            network[0].weight.copy_(torch.eye(6))
            network[0].bias.zero_()
        return network

    assert read(build, n=2000)["variance_shift"]["2"] == pytest.approx(2.0, rel=0.15)
    assert read(build, arm=0)["variance_shift"]["2"] == 1.0
    assert "variance_shift" not in read(with_dropout())
    assert read(lambda: net(nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)))["variance_shift"] == {"1": 1.0}


def test_channels_are_the_units_of_a_convolution():
    def build():
        network = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Dropout1d(0.5), nn.Conv1d(4, 3, 2),
                                nn.Flatten(), nn.Linear(9, 2))
        with torch.no_grad():
            network[1].bias[0] = -1e3
        return network

    found = read(build)
    assert found["dead"] == {"4": 0.25, "6": 0.0}
    assert list(found["ablation_50"]) == ["4", "6"]
    assert found["no_gradient"]["1"] == 0.25


def test_recurrent_embedded_and_frozen_layers_are_read():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.rnn = nn.Embedding(50, 5), nn.LSTM(5, 4, batch_first=True)
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 2)
            self.words.weight.requires_grad_(False)

        def forward(self, x):
            return self.head(self.drop(self.rnn(self.words(x))[0][:, -1]))

    x = torch.randint(0, 50, (80, 7), generator=torch.Generator().manual_seed(0))
    ready = prepare(dk.Experiment(data=(x, x[:, 0] % 2), model=Tokens, epochs=1, batch_size=8))
    network = build_arm(ready.experiment, ready.builder, ready.arms[2], seed=0)
    found = measure(ready, network, ready.part(0), 0, 0)
    assert list(found["gradient_norm"]) == ["rnn", "head"]
    assert list(found["dead"]) == ["head"]  # the frozen embedding is an input that nothing has trained


def test_too_few_examples_for_batches_leave_the_gradients_out():
    found = read(with_dropout(), n=10)  # six are trained on
    assert "data_noise" not in found
    assert found["dead"] == {"3": found["dead"]["3"]}


def test_what_is_not_finite_is_none():
    ready = ready_for(lambda: net(nn.ReLU(), nn.Dropout(0.5), last=1), task="regression")
    network = build_arm(ready.experiment, ready.builder, ready.arms[2], seed=0)
    with torch.no_grad():
        network[3].bias.fill_(math.nan)
    found = measure(ready, network, ready.part(0), 0, 0)
    assert (found["data_noise"], found["evaluation_noise"], found["ablation_50"]) == (None, None, {"3": None})
    assert found["dead"]["3"] is not None
    json.dumps(found, allow_nan=False)


def test_time_in_dropout_is_told_and_leaves_the_random_state():
    ready = ready_for(with_dropout())
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    said = time_in_dropout(ready, ready.arms[2])
    assert said.startswith("Time in dropout: ")
    assert "of arm 'intended'" in said
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
