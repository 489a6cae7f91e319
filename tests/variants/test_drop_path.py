import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.drop_path import DropPath, drop_path


def test_whole_examples_are_dropped_or_scaled():
    x = torch.randn(4000, 3, 2)
    y = drop_path(x, 0.2)
    gone = (y == 0).flatten(1).all(1)
    assert torch.equal(y[~gone], x[~gone] * torch.tensor(1.25))
    assert abs(float(gone.double().mean()) - 0.2) < math.sqrt(math.log(2 / 1e-6) / (2 * 4000))


def test_per_batch_decides_once():
    x, module = torch.ones(50, 3), DropPath(0.5, per="batch")
    seen = {float(module(x).unique()) for _ in range(40)}
    assert seen == {0.0, 2.0}  # both within 40 passes but for a chance of 2^-39


def test_a_module_made_at_zero_can_be_scheduled_up():
    module, x = DropPath(0.0), torch.ones(100, 2)
    assert module(x) is x
    module.p = 1.0
    assert bool((module(x) == 0).all())


def test_classic_scaling_moves_the_factor_to_evaluation():
    module, x = DropPath(0.25, scaling="classic"), torch.ones(100, 2)
    assert set(module(x).unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(module.eval()(x), x * 0.75)


def test_the_rules_of_depth():
    assert dk.depth_rates(0.4, 4) == (0.1, 0.2, pytest.approx(0.3), 0.4)
    assert dk.depth_rates(0.3, 4, "linspace") == pytest.approx(torch.linspace(0, 0.3, 4).tolist())
    assert dk.depth_rates(0.4, 4, "zero_based") == pytest.approx((0.0, 0.1, 0.2, 0.3))
    assert [dk.depth_rates(0.4, 1, rule) for rule in ("paper", "linspace", "zero_based")] == [(0.4,), (0.0,), (0.0,)]


def test_wrong_arguments_are_refused():
    with pytest.raises(dk.InputError, match="per is"):
        DropPath(per="layer")
    with pytest.raises(dk.InputError, match="batch dimension"):
        drop_path(torch.tensor(1.0))
    with pytest.raises(dk.InputError, match="depth is"):
        dk.depth_rates(0.1, 0)
    with pytest.raises(dk.InputError, match="rule is"):
        dk.depth_rates(0.1, 2, "other")
