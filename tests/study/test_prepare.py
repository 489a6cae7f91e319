"""What cannot work is told before the first run."""

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.prepare import prepare


def net(n_in=4, n_out=3):
    return nn.Sequential(nn.Linear(n_in, 8), nn.Dropout(0.5), nn.Linear(8, n_out))


class Pair(nn.Sequential):
    def forward(self, x):
        return super().forward(x), x


X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
LABELS, VALUES = torch.arange(40) % 3, torch.linspace(0, 1, 40)


@pytest.mark.parametrize(("fields", "words"), [
    ({"model": lambda: net(5)}, "One example has shape (4,)"),
    ({"model": lambda: net().double()}, "type torch.float32; convert inside the model"),
    ({"data": (torch.arange(160).reshape(40, 4), LABELS)}, "whole numbers are taken for token ids: pass floats"),
    ({"model": lambda: net().requires_grad_(False)}, "parameters that learn"),
    ({"model": lambda: net(4, 2)}, "labels run up to 2, so outputs are (N, 3) or wider; got outputs of shape (8, 2)"),
    ({"model": lambda: Pair(nn.Linear(4, 3), nn.Dropout(0.5))}, "returns one tensor"),
    ({"data": (X, VALUES), "model": lambda: net(4, 2)}, "outputs have the targets' shape (N, 1)"),
    ({"loss": "mse"}, "loss 'mse' is for regression"),
    ({"metric": "rmse"}, "metric 'rmse' is for regression"),
    ({"data": (X, VALUES), "metric": "accuracy", "model": lambda: net(4, 1)}, "metric 'accuracy' is for classification"),
    ({"loss": lambda outputs, targets: outputs.sum() * float("nan")}, "finite scalars"),
    ({"loss": lambda outputs, targets: outputs}, "grad can be implicitly created only for scalar outputs"),
    ({"loss": lambda outputs: outputs}, "TypeError"),
    ({"data": (X[:30], LABELS)}, "30"),
    ({"data": (X * float("nan"), LABELS)}, "NaN"),
    ({"data": (X, LABELS - 1)}, "-1"),
    ({"data": (X[:0], LABELS[:0])}, "empty"),
    ({"data": "no_such_file.csv"}, "no_such_file.csv"),
    ({"data": "digitz"}, "digits"),
])
def test_it_is_named(fields, words):
    with pytest.raises(InputError) as caught:
        prepare(dk.Experiment(**{"data": (X, LABELS), "model": net, **fields}))
    assert words.lower() in str(caught.value).lower()


def test_a_good_experiment_passes():
    ready = prepare(dk.Experiment(data=(X, LABELS), model=net))
    assert (ready.n_outputs, ready.metric_name, ready.loss_name) == (3, "accuracy", "cross_entropy")


def test_the_default_network_fits_the_data():
    assert prepare(dk.Experiment(data=(X.reshape(40, 2, 2), VALUES))).n_outputs == 1
