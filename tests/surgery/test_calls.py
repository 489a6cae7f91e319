import collections
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import dropkit as dk
from dropkit.surgery.calls import call_model, copy_inputs, undisturbed

X = torch.randn(4, 3)


def kind(value):
    return type(value).__name__


class Echo(nn.Module):
    def forward(self, *args, **kwargs):
        return args, kwargs


@pytest.mark.parametrize(("inputs", "expected"), [
    (X, ((X,), {})), ((X, 1), ((X, 1), {})), ([X, 1], ((X, 1), {})), ({"a": X}, ((), {"a": X})),
    (collections.UserDict(a=X), ((), {"a": X})), ("text", (("text",), {})), ((), ((), {}))], ids=kind)
def test_how_inputs_become_arguments(inputs, expected):
    assert str(call_model(Echo(), inputs)) == str(expected)


def test_a_packed_sequence_is_one_argument():
    packed = pack_padded_sequence(torch.ones(3, 2, 1), [3, 2])
    assert call_model(Echo(), packed)[0][0] is packed


@pytest.mark.parametrize("inputs", [X, (X, 1), [X], {"a": [X]}, collections.UserDict(a=X)], ids=kind)
def test_copies_are_equal_and_their_own(inputs):
    copied = copy_inputs(inputs)
    before = X.clone()
    assert str(call_model(Echo(), copied)) == str(call_model(Echo(), inputs))
    args, kwargs = call_model(Echo(), copied)
    (args or list(kwargs.values()))[0][0].mul_(0)
    assert torch.equal(X, before)


def test_copies_ask_for_gradients_alike():
    assert copy_inputs(X.clone().requires_grad_()).requires_grad
    assert not copy_inputs(X).requires_grad


def test_random_states_come_back():
    model = nn.Linear(1, 1)

    def draw():
        return torch.rand(3).tolist(), random.random(), np.random.rand()

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    expected = draw()
    torch.set_rng_state(states[0])
    random.setstate(states[1])
    np.random.set_state(states[2])
    with undisturbed(model):
        draw()
    assert draw() == expected


def test_random_states_come_back_after_an_error():
    model = nn.Linear(1, 1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()

    def fail():
        with undisturbed(model):
            torch.rand(1), random.random(), np.random.rand()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_buffers_modes_attributes_and_gradients_come_back_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[1].eval()
    model(X).sum().backward()
    model.history = ["a"]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    identities = {name: id(buffer) for name, buffer in model.named_buffers()}
    grads = {name: (p.grad, p.grad.clone()) for name, p in model.named_parameters()}

    def fail():
        with undisturbed(model):
            model.train()(X * 3)
            model.history.append("b")
            model.other = 1
            model[0].running_mean = torch.ones(3)
            model.zero_grad()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {name: id(buffer) for name, buffer in model.named_buffers()} == identities
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert (model.training, model[1].training, model.history, hasattr(model, "other")) == (True, False, ["a"], False)
    assert all(p.grad is grads[name][0] and torch.equal(p.grad, grads[name][1]) for name, p in model.named_parameters())


def test_a_live_graph_can_still_be_differentiated():
    model = nn.BatchNorm1d(3)
    model.eval()
    y = model(X.clone().requires_grad_())
    with undisturbed(model):
        model.train()(X)
    y.sum().backward()  # torch would refuse a buffer that was written to


def test_keyed_counts_stand_still():
    model, ones = nn.Identity(), torch.ones(50)
    with dk.keyed(0):
        expected = dk.functional.dropout(ones)
    with dk.keyed(0):
        with undisturbed(model):
            dk.functional.dropout(ones)
        assert torch.equal(dk.functional.dropout(ones), expected)


def test_lazy_parameters_are_refused():
    with pytest.raises(dk.InputError, match="Run the model once"), undisturbed(nn.LazyLinear(2)):
        pass
