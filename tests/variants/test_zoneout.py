import pytest
import torch

import dropkit as dk
from dropkit.variants.zoneout import Zoneout, zoneout

OLD, NEW = torch.zeros(40_000), torch.ones(40_000)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_is_that_of_keeping_the_old_value(p):  # inverted in the authors' first scripts
    torch.manual_seed(0)
    y = zoneout(OLD, NEW, p)
    assert bool(((y == 0) | (y == 1)).all())
    kept = float((y == 0).double().mean())
    assert abs(kept - p) < 5 * (p * (1 - p) / 40_000) ** 0.5  # false alarm: 6 in 10^7; inverted rates are 100 times as far off
    expected = zoneout(OLD[:4], NEW[:4], p, training=False)
    assert torch.allclose(expected, torch.full((4,), 1 - p), rtol=1e-6)


def test_at_the_ends():
    assert zoneout(OLD, NEW, 0.0) is NEW
    assert zoneout(OLD, NEW, 0.0, training=False) is NEW
    assert torch.equal(zoneout(OLD, NEW, 1.0), OLD)
    assert torch.equal(zoneout(OLD, NEW, 1.0, training=False), OLD)
    x = torch.full((5,), torch.inf)
    assert torch.equal(zoneout(torch.ones(5), x, 1.0), torch.ones(5))


def test_gradients_go_where_values_came_from():
    old, new = torch.randn(50, requires_grad=True), torch.randn(50, requires_grad=True)
    y = zoneout(old, new, 0.4)
    kept = y == old
    to_old, to_new = torch.autograd.grad(y.sum(), (old, new))
    assert torch.equal(to_old, kept.float())
    assert torch.equal(to_new, (~kept).float())
    to_old, to_new = torch.autograd.grad(zoneout(old, new, 0.4, training=False).sum(), (old, new))
    assert torch.allclose(to_old, torch.full((50,), 0.4))
    assert torch.allclose(to_new, torch.full((50,), 0.6))


def test_the_module_is_the_function():
    module = Zoneout(0.4)
    module.stream = "cell"
    with dk.keyed(3):
        y = module(OLD, NEW)
    with dk.keyed(3):
        assert torch.equal(y, zoneout(OLD, NEW, 0.4, stream="cell"))
    assert torch.equal(module.eval()(OLD, NEW), zoneout(OLD, NEW, 0.4, training=False))


@pytest.mark.parametrize("change", [
    lambda: zoneout(torch.zeros(2), torch.zeros(3)), lambda: zoneout(torch.zeros(2), torch.zeros(2).double()),
    lambda: zoneout(torch.zeros(2), torch.zeros(2), 1.5, training=False)])
def test_bad_input_is_refused(change):
    with pytest.raises(dk.InputError, match=r"one shape and type|probability"):
        change()
