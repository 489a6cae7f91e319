import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.mixout import Mixout, mixout


def test_the_formula_of_the_paper():
    """``(mix(W, W0) - p W0) / q``, element by element."""
    w, w0, p = torch.randn(40, 30, dtype=torch.float64), torch.randn(40, 30, dtype=torch.float64), 0.3
    with dk.keyed(1):
        y = mixout(w, w0, p)
    taken, kept = (w0 - p * w0) / (1 - p), (w - p * w0) / (1 - p)
    is_taken, is_kept = torch.isclose(y, taken, atol=1e-9), torch.isclose(y, kept, atol=1e-9)
    assert bool((is_taken ^ is_kept).all())
    assert len({tuple(row.tolist()) for row in is_taken}) == 40  # a port repeats one row's mask


def test_gradients_have_the_scale():
    w = torch.randn(1000, requires_grad=True)
    mixout(w, torch.zeros(1000), 0.75).sum().backward()
    assert set(w.grad.unique().tolist()) == {0.0, 4.0}


def test_rate_one_is_the_pretrained_weight():
    w, w0 = torch.randn(5, requires_grad=True), torch.randn(5)
    y = mixout(w, w0, 1.0)
    assert torch.equal(y, w0)
    y.sum().backward()
    assert bool((w.grad == 0).all())


def test_the_module_keeps_where_it_came_from():
    layer = Mixout(nn.Linear(4, 3), 0.5)
    before = layer.pretrained_weight.clone()
    assert torch.allclose(layer(torch.ones(2, 4)), layer.eval()(torch.ones(2, 4)))  # nothing has moved yet
    with torch.no_grad():
        layer.weight.add_(1.0)
    assert torch.equal(layer.pretrained_weight, before)
    assert not torch.allclose(layer.train()(torch.ones(2, 4)), layer.eval()(torch.ones(2, 4)))


def test_shapes_must_agree():
    with pytest.raises(dk.InputError, match="of its shape"):
        mixout(torch.ones(3), torch.ones(4))
