"""Recurrent modules in surgery: swapped there and back, and reported where their rate never drops."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

import dropkit as dk


def idle():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns when it is built
        return nn.LSTM(2, 2, dropout=0.5)


def test_a_rate_that_never_drops_is_reported_by_name():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(idle()))
    with pytest.warns(UserWarning, match=r"one layer never drops: '1\.0' has a rate"):
        dk.swap(model)
    assert type(model[0]) is dk.nn.Dropout


def test_the_warning_as_an_error_changes_nothing():
    model = nn.Sequential(nn.Dropout(), idle())
    with pytest.raises(UserWarning, match="never drops"):
        dk.swap(model)
    assert type(model[0]) is nn.Dropout


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_others_are_swapped_or_left_in_silence(kind):
    model = nn.Sequential(kind(2, 2), kind(2, 2, 2, dropout=0.5))
    assert [type(part).__name__ for part in dk.swap(model)] == [kind.__name__, f"Variational{kind.__name__}"]
    assert [site.p for site in dk.sites(model)] == [0.5]


def stack(kind=nn.LSTM, layers=2, **options):
    torch.manual_seed(0)
    return nn.ModuleDict({"rnn": kind(6, 8, layers, dropout=0.5 if layers > 1 else 0.0, **options), "drop": nn.Dropout(0.2)})


def listed(model):
    return [(site.name, site.kind, site.p) for site in dk.sites(model)]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_modules_of_several_layers_are_swapped_there_and_back(kind):
    model, x = stack(kind), torch.randn(5, 3, 6)
    before, keys, kinds = copy.deepcopy(model), list(model.state_dict()), [type(module) for module in model.modules()]
    assert dk.swap(model) is model
    assert listed(model) == [("rnn.between_dropout", "dropout", 0.5), ("drop", "dropout", 0.2)]
    assert list(model.state_dict()) == keys
    assert torch.equal(model["rnn"].eval()(x)[0], before["rnn"].eval()(x)[0])
    model.train()
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    outputs = []
    for one in (model, model, again):
        with dk.keyed(3):
            outputs.append(one["rnn"](x)[0])
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    with dk.keyed(4):
        assert not torch.equal(model["rnn"](x)[0], outputs[0])
    assert dk.set_rate(model, {"rnn.between_dropout": 0.25}) == {"rnn.between_dropout": 0.5}
    dk.swap(model)  # a second time changes nothing
    dk.swap(model, to="torch")
    assert [type(module) for module in model.modules()] == kinds
    assert model["rnn"].dropout == 0.25
    assert torch.equal(model["rnn"].eval()(x)[0], before["rnn"](x)[0])


def between(model, x):
    """The factors on what goes from the first layer to the second, which passes it through: (T, N, H)."""
    with torch.no_grad():
        for name, parameter in model["rnn"].named_parameters():
            parameter.zero_()
            if name in ("weight_ih_l0", "weight_ih_l1"):
                parameter.copy_(torch.eye(*parameter.shape))
    return model["rnn"](x)[0]


@pytest.mark.parametrize(("recurrent", "constant"), [("step", False), ("sequence", True)])
def test_masks_between_layers_last_as_long_as_asked_for(recurrent, constant):
    model = nn.ModuleDict({"rnn": nn.RNN(8, 8, 2, nonlinearity="relu", dropout=0.5)})
    dk.swap(model, recurrent=recurrent)
    y = between(model, torch.ones(6, 4, 8))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    assert bool((y == y[:1]).all()) is constant
    assert not torch.equal(y[:, 0], y[:, 1])


def test_for_sequences_all_places_become_sites_and_modules_of_one_layer_too():
    model = dk.swap(stack(layers=1), recurrent="sequence")
    places = [f"rnn.{place}_dropout" for place in ("input", "recurrent", "between", "output")]
    assert listed(model) == [*((name, "locked_dropout", 0.0) for name in places), ("drop", "dropout", 0.2)]
    dk.set_rate(model, {"rnn.recurrent_dropout": 0.5})
    before = listed(model)
    with pytest.raises(dk.InputError, match=r"no recurrent_p.*the module is 'rnn'"):
        dk.swap(model, to="torch")
    assert listed(model) == before
    dk.set_rate(model, {"rnn.*": 0.0})
    dk.swap(model, to="torch")
    assert type(model["rnn"]) is nn.LSTM


def test_a_place_without_a_site_says_how_it_gets_one():
    lstm = dk.swap(stack())["rnn"]
    assert lstm.recurrent_p == 0.0
    with pytest.raises(dk.InputError, match=r"recurrent_dropout = dropkit\.nn\.LockedDropout\(0\.3\)"):
        lstm.recurrent_p = 0.3
    lstm.recurrent_dropout = dk.nn.LockedDropout(0.3)
    assert (lstm.recurrent_p, lstm.input_p) == (0.3, 0.0)


def test_another_way_to_draw_is_refused_before_anything_changes():
    model = stack()
    with pytest.raises(dk.InputError, match='recurrent is "step" or "sequence"; got \'day\''):
        dk.swap(model, recurrent="day")
    assert type(model["rnn"]) is nn.LSTM
    assert type(model["drop"]) is nn.Dropout


def test_no_dropout_where_it_is_disabled():
    model, x = dk.swap(stack()), torch.randn(5, 3, 6)
    with dk.disabled(model):
        assert torch.equal(model["rnn"](x)[0], model["rnn"](x)[0])
    assert not torch.equal(model["rnn"](x)[0], model["rnn"](x)[0])
