import copy

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.recurrent_swap import make_plain, make_variational

KINDS = {"lstm": (dk.nn.VariationalLSTM, nn.LSTM), "gru": (dk.nn.VariationalGRU, nn.GRU), "rnn": (dk.nn.VariationalRNN, nn.RNN)}
kinds = pytest.mark.parametrize("kind", KINDS)


def data(*shape):
    torch.manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64)


@kinds
def test_conversion_in_place_and_back(kind):
    torch.manual_seed(0)
    plain = KINDS[kind][1](3, 5, 2, dropout=0.5, batch_first=True).double()
    before, weight, x = copy.deepcopy(plain), plain.weight_hh_l0, data(2, 4, 3)
    keys = set(vars(plain))
    seen = []
    handle = plain.register_forward_hook(lambda *_: seen.append(1))
    assert make_variational(plain) is plain
    assert type(plain) is KINDS[kind][0]
    assert plain.weight_hh_l0 is weight
    assert (plain.dropout, plain.between_dropout.p, plain.per) == (0.5, 0.5, "step")
    assert torch.equal(plain.eval()(x)[0], before.eval()(x)[0])
    assert seen == [1]
    handle.remove()
    plain.train()
    assert not torch.equal(plain(x)[0], plain(x)[0])
    assert make_plain(plain) is plain
    assert type(plain) is KINDS[kind][1]
    assert plain.dropout == 0.5
    assert set(vars(plain)) == keys
    assert not list(plain.children())
    assert repr(plain) == repr(before)
    assert torch.equal(plain.eval()(x)[0], before.eval()(x)[0])


@kinds
def test_conversion_is_refused_where_something_would_be_lost(kind):
    ours, twin = KINDS[kind][0], KINDS[kind][1]

    class Odd(twin):
        pass

    for module in (Odd(3, 5), ours(3, 5), nn.Linear(2, 2)):
        with pytest.raises(dk.InputError, match=r"is an nn\.LSTM, nn\.GRU or nn\.RNN"):
            make_variational(module)
    plain = twin(3, 5, 2, dropout=0.5)
    for bad in (dict(input_p=2.0), dict(recurrent_p=-1.0), dict(per="day")):
        with pytest.raises(dk.InputError):
            make_variational(plain, **bad)
        assert type(plain) is twin
        assert plain.dropout == 0.5
    with pytest.raises(dk.InputError, match="becomes torch's"):
        make_plain(plain)
    for options, text in ((dict(input_p=0.1), "has no input_p"), (dict(recurrent_p=0.1), "has no recurrent_p"),
                          (dict(output_p=0.1), "has no output_p"), (dict(dropout=0.1), "draws a new mask between layers")):
        module = ours(3, 5, 2, **options)
        with pytest.raises(dk.InputError, match=text):
            make_plain(module)
        assert type(module) is ours
    assert type(make_plain(ours(3, 5, 2, dropout=0.1, per="step"))) is twin
