import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import dropkit as dk
from dropkit.variants.weight_drop import WeightDrop, weight_drop


def test_the_fused_lstm_runs_with_dropped_weights():
    """By hand: the same network with the masked weight written into a copy gives the same output."""
    lstm, x = nn.LSTM(4, 6), torch.randn(5, 3, 4)
    with dk.keyed(1):
        y, _ = WeightDrop(lstm, 0.5)(x)
    other = copy.deepcopy(lstm)
    with torch.no_grad(), dk.keyed(1):
        other.weight_hh_l0.copy_(dk.functional.dropout(lstm.weight_hh_l0, 0.5))
    assert torch.equal(y, other(x)[0])
    assert not torch.equal(y, lstm(x)[0])


def test_gradients_reach_the_raw_weight():
    layer = WeightDrop(nn.LSTM(4, 6), 0.5)
    layer(torch.randn(5, 3, 4))[0].sum().backward()
    grad = layer.module.weight_hh_l0.grad
    assert grad is not None
    assert 0 < int((grad == 0).sum()) < grad.numel()
    assert layer.module.weight_hh_l0.is_leaf


def test_the_state_is_the_wrapped_modules():
    model = nn.Sequential(WeightDrop(nn.LSTM(4, 6), 0.5))
    plain = nn.Sequential(nn.LSTM(4, 6))
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})


def test_evaluation_uses_whole_weights():
    lstm, x = nn.LSTM(4, 6), torch.randn(5, 3, 4)
    assert torch.equal(WeightDrop(lstm, 0.9).eval()(x)[0], lstm(x)[0])


def test_packed_sequences_and_states_pass_through_without_warnings():
    packed = pack_padded_sequence(torch.randn(5, 2, 4), torch.tensor([5, 3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y, (h, c) = WeightDrop(nn.LSTM(4, 6), 0.5)(packed, (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)))
    assert y.data.shape == (8, 6)
    assert h.shape == c.shape == (1, 2, 6)


def test_any_module_and_several_weights():
    net, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), torch.ones(2, 8)
    layer = WeightDrop(net, 1.0, names=("*weight",))
    assert layer.names == ("0.weight", "2.weight")
    assert torch.equal(layer(x), net[2].bias.expand(2, 8))


def test_compiled_linear_layers_drop_alike():
    layer, x = WeightDrop(nn.Linear(8, 8), 0.5, names="weight"), torch.randn(2, 8)
    compiled = torch.compile(layer, backend="aot_eager")
    with dk.keyed(4):
        y = layer(x)
    with dk.keyed(4):
        assert torch.allclose(compiled(x), y)


def test_copies_keep_working():
    layer, x = WeightDrop(nn.GRU(4, 6), 0.5), torch.randn(5, 3, 4)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other.hidden_size == 6
        with dk.keyed(1):
            y = layer(x)[0]
        with dk.keyed(1):
            assert torch.equal(other(x)[0], y)


def test_unknown_names_are_refused():
    with pytest.raises(dk.InputError, match="weight_hh_l0"):
        WeightDrop(nn.LSTM(2, 2), 0.5, names=("weight_hx",))
    with pytest.raises(dk.InputError, match="parameter"):
        weight_drop(nn.Linear(2, 2), (torch.ones(1, 2),), 0.5)
    with pytest.raises(AttributeError):
        _ = WeightDrop(nn.LSTM(2, 2)).no_such_thing
