import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.targeted import TargetedDropout, targeted_dropout, targets


def test_only_the_smallest_are_dropped_and_nothing_is_scaled():
    weight = torch.randn(50, 40)
    y = targeted_dropout(weight, 0.5, gamma=0.25)
    assert bool(((y == weight) | (y == 0)).all())
    threshold = weight.abs().sort(1).values[:, 9:10]  # 10 of 40
    assert bool((weight.abs()[y == 0] <= threshold.expand_as(weight)[y == 0]).all())
    assert 0 < int((y == 0).sum()) < 500
    assert int((targeted_dropout(weight, 1.0, gamma=0.25) == 0).sum()) == 500


def test_units_fall_together():
    weight = torch.randn(10, 3, 2)
    y = targeted_dropout(weight, 1.0, gamma=0.3, kind="unit")
    gone = (y == 0).flatten(1).all(1)
    assert int(gone.sum()) == 3
    norms = weight.flatten(1).norm(dim=1)
    assert float(norms[gone].max()) < float(norms[~gone].min())


def test_ties_are_settled_by_count():
    assert int(targets(torch.ones(3, 10), 0.3).sum()) == 9


def test_evaluation_neither_drops_nor_prunes():
    layer = nn.Linear(8, 4)
    module, x = TargetedDropout(layer, 1.0).eval(), torch.randn(2, 8)
    assert torch.equal(module(x), layer(x))
    assert bool((module.weight != 0).all())


def test_pruning_is_a_step_of_its_own():
    module = TargetedDropout(nn.Linear(8, 4), 1.0, gamma=0.5)
    dropped = module(torch.eye(8))
    assert module.prune_() == 0.5
    assert torch.allclose(module.eval()(torch.eye(8)), dropped)


def test_wrong_settings_are_refused():
    with pytest.raises(dk.InputError, match="kind is"):
        TargetedDropout(nn.Linear(2, 2), kind="row")
    with pytest.raises(dk.InputError, match="gamma"):
        TargetedDropout(nn.Linear(2, 2), gamma=1.5)
