import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import dropkit as dk
from dropkit.surgery.discover import discover

X = torch.ones(4)


class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(self, x)


def test_both_modes_are_seen():
    net = Net(lambda self, x: F.dropout(x, 0.3) if not self.training else F.alpha_dropout(x, 0.2, training=True))
    found = {call.key: (call.training, call.always, call.p) for call in discover(net, X)}
    assert found == {"alpha_dropout": (True, False, 0.2), "dropout": (False, True, 0.3)}


def test_a_rate_of_zero_is_a_call_that_does_not_drop():
    call = discover(Net(lambda self, x: F.dropout(x, 0.0)), X)[0]
    assert (call.p, call.training, call.always) == (0.0, True, False)


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_an_error_names_the_mode(mode):
    def body(self, x):
        if self.training == (mode == "training"):
            raise RuntimeError("too bad")
        return x

    with pytest.raises(dk.InputError, match=f"here in {mode}; got RuntimeError: too bad"):
        discover(Net(body), X)


def test_wrong_arguments_are_explained():
    with pytest.raises(dk.InputError, match="Pass inputs as a tensor, a tuple of arguments, or a dict"):
        discover(nn.Linear(4, 4), (X, X))


def test_rates_that_were_set_are_told_from_the_codes_own():
    net = Net(lambda self, x: F.dropout(x, 0.3))
    dk.set_rate(dk.swap(net, inputs=X), 0.7)
    call = discover(net, X)[0]
    assert (call.p, call.called) == (0.7, 0.3)


def test_checkpoints_inside_a_forward_are_told_from_those_around_it():
    inside = Net(lambda self, x: checkpoint(F.dropout, x, use_reentrant=False))
    around = Net(lambda self, x: checkpoint(self.inner, x, use_reentrant=False))
    around.inner = Net(lambda self, x: F.dropout(x))
    assert [call.recomputed for call in discover(inside, X)] == [True]
    assert [call.recomputed for call in discover(around, X)] == [False]


def test_the_place_is_outside_torch_and_dropkit():
    call = discover(Net(lambda self, x: dk.functional.dropout(x)), X)[0]
    assert call.where.startswith("test_discover.py:")


def test_gradients_need_not_be_off():
    """A forward that differentiates, as energies do."""
    def body(self, x):
        x = x.clone().requires_grad_()
        return torch.autograd.grad(F.dropout(x, 0.5).square().sum(), x)[0]

    assert [call.key for call in discover(Net(body), X)] == ["dropout"]
