import pytest
import torch

import dropkit as dk
from dropkit.variants.recurrent_dropout import RecurrentDropout, recurrent_dropout


def test_what_is_carried_is_never_dropped():
    torch.manual_seed(0)
    y = recurrent_dropout(torch.ones(10_000), torch.full((10_000,), 7.0), 0.5)
    assert y.unique().tolist() == [7.0, 9.0]
    assert abs(float((y == 7).double().mean()) - 0.5) < 5 * 0.005  # false alarm: 6 in 10^7
    assert torch.equal(recurrent_dropout(torch.full((3,), torch.nan), torch.ones(3), 1.0), torch.ones(3))
    assert torch.equal(recurrent_dropout(torch.ones(3), torch.ones(3), 0.5, training=False), torch.full((3,), 2.0))


def test_gradients_follow_the_mask():
    update, carried = torch.ones(50, requires_grad=True), torch.ones(50, requires_grad=True)
    y = recurrent_dropout(update, carried, 0.5)
    to_update, to_carried = torch.autograd.grad(y.sum(), (update, carried))
    assert torch.equal(to_update, y.detach() - 1)
    assert torch.equal(to_carried, torch.ones(50))


def test_the_module_is_the_function():
    module, x, y = RecurrentDropout(0.4), torch.randn(9), torch.randn(9)
    module.stream = "cell"
    with dk.keyed(3):
        found = module(x, y)
    with dk.keyed(3):
        assert torch.equal(found, recurrent_dropout(x, y, 0.4, stream="cell"))


@pytest.mark.parametrize("change", [
    lambda: recurrent_dropout(torch.zeros(2), torch.zeros(3)),
    lambda: recurrent_dropout(torch.zeros(2), torch.zeros(2).double()),
    lambda: recurrent_dropout(torch.zeros(2), torch.zeros(2), 1.5, training=False)])
def test_bad_input_is_refused(change):
    with pytest.raises(dk.InputError, match=r"one shape and type|probability"):
        change()
