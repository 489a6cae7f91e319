"""Experiments refuse what cannot work, before anything is trained."""

import pytest
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError


def build(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 3))


def needs(width):
    return build(width)


def test_defaults_are_enough():
    experiment = dk.Experiment(data="iris")
    assert (experiment.model, experiment.epochs, experiment.optimizer) == (None, 40, "adam")


@pytest.mark.parametrize(("fields", "words"), [
    ({"epochs": 0}, "epochs is a whole number of at least 1; got 0"),
    ({"epochs": 2.5}, "epochs is a whole number"),
    ({"epochs": True}, "epochs is a whole number"),
    ({"batch_size": 0}, "batch_size is a whole number of at least 1"),
    ({"lr": 0.0}, "lr is a finite number above 0"),
    ({"lr": float("nan")}, "lr is a finite number above 0"),
    ({"weight_decay": -1.0}, "weight_decay is a finite number of at least 0"),
    ({"margin": 0}, "margin is a finite number above 0"),
    ({"rate": 1.5}, "1.5"),
    ({"model": build, "rates": {"p": -0.1}}, "-0.1"),
    ({"task": "ranking"}, "classification, regression"),
    ({"loss": "nonsense"}, "cross_entropy"),
    ({"metric": "nonsense"}, "accuracy"),
    ({"optimizer": "nonsense"}, "adam"),
    ({"metric": len}, "higher_is_better"),
    ({"model": build()}, "builds a fresh nn.Module"),
    ({"model": needs}, "needs(width): missing a required argument: 'width'"),
    ({"model": build, "rates": {"p": 0.5}}, "unexpected keyword argument 'p'"),
    ({"rates": {"p": 0.5}}, "rates without model"),
    ({"model": build, "rates": 3}, "maps arguments of a model builder to rates; got 3"),
    ({"name": 3}, "name is text"),
])
def test_wrong_fields_are_named(fields, words):
    with pytest.raises(InputError) as caught:
        dk.Experiment(data="iris", **fields)
    assert words in str(caught.value)
