import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dropkit as dk
from dropkit.variants.zoneout_rnn import zoneout_gru, zoneout_lstm, zoneout_rnn

sys.path.insert(0, str(Path(__file__).parent))
from rnn_oracle import GATES, keep, sequence

KINDS = {"lstm": (dk.nn.ZoneoutLSTM, nn.LSTM, zoneout_lstm), "gru": (dk.nn.ZoneoutGRU, nn.GRU, zoneout_gru),
         "rnn": (dk.nn.ZoneoutRNN, nn.RNN, zoneout_rnn)}
kinds = pytest.mark.parametrize("kind", KINDS)


def made(kind, hidden_p=0.3, cell_p=0.6, **options):
    torch.manual_seed(0)
    own = {"cell_p": cell_p} if kind == "lstm" else {}
    return dk.name_streams(KINDS[kind][0](3, 5, hidden_p=hidden_p, **own, **options).double())


def data(*shape):
    torch.manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64)


def keyed(module, *inputs):
    with dk.keyed(5):
        return module(*inputs)


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_values_are_those_written_down(kind, training):
    """The old value stays where the site drops the new one; in evaluation the rates mix the two."""
    module, x = made(kind, bidirectional=True).train(training), data(4, 2, 3)
    got, gates = keyed(module, x)[0], GATES[module.mode]
    one = torch.ones(gates, 2, 5).double()
    with dk.keyed(5), torch.no_grad():
        outputs = []
        for direction in range(2):
            if training:
                zone_c = (~keep((4, 2, 5), 0.6, "cell_zoneout")).double() if kind == "lstm" else None
                zone_h = (~keep((4, 2, 5), 0.3, "hidden_zoneout")).double()
            else:
                zone_c, zone_h = (torch.full((4, 2, 5), p, dtype=torch.float64) for p in (0.6, 0.3))
            order = range(3, -1, -1) if direction else range(4)
            outputs.append(torch.stack([
                sequence(module.mode, module.all_weights[direction], x[:, n], torch.ones(gates, 3).double(), one[:, n], order,
                         zone_c=zone_c if zone_c is None else zone_c[:, n], zone_h=zone_h[:, n]) for n in range(2)], 1))
    assert torch.allclose(got, torch.cat(outputs, -1), rtol=1e-12, atol=1e-14)


@kinds
def test_rate_one_never_changes_and_rate_zero_is_torchs(kind):
    still, plain = made(kind, 1.0, 1.0), KINDS[kind][1](3, 5).double()
    plain.load_state_dict(still.state_dict())
    x, start = data(4, 2, 3), data(1, 2, 5)
    hx = (start, 2 * start) if kind == "lstm" else start
    for module in (still, still.eval()):
        y, last = module(x, hx)
        assert torch.equal(y, start.expand(4, 2, 5))
        assert all(torch.equal(a, b) for a, b in zip(last if kind == "lstm" else [last], hx if kind == "lstm" else [hx],
                                                     strict=True))
    assert torch.equal(made(kind, 0.0, 0.0)(x)[0], plain(x)[0])


def test_memory_and_state_have_rates_of_their_own():
    x = data(4, 2, 3)
    only_cell, only_hidden = made("lstm", 0.0, 1.0), made("lstm", 1.0, 0.0)
    start = (data(1, 2, 5), 2 * data(1, 2, 5))
    _, (h, c) = only_cell(x, start)
    assert torch.equal(c, start[1])
    assert not torch.equal(h, start[0])
    _, (h, c) = only_hidden(x, start)
    assert torch.equal(h, start[0])
    assert not torch.equal(c, start[1])


@kinds
def test_masks_are_new_at_each_step(kind):
    module = made(kind, 0.5, 0.0)
    y = module(data(30, 2, 3))[0]
    stood = y[1:] == y[:-1]
    share = stood.double().mean()
    assert abs(float(share) - 0.5) < 5 * (0.25 / stood.numel()) ** 0.5  # false alarm: 6 in 10^7
    assert not bool(stood.all(0).any())
    assert bool(stood.any(0).all())


@kinds
def test_packed_sequences_get_the_masks_of_the_padded_ones(kind):
    module, x, lengths = made(kind, num_layers=2, dropout=0.4), data(5, 3, 3), torch.tensor([3, 5, 2])
    for training in (True, False):
        module.train(training)
        packed, last = keyed(module, pack_padded_sequence(x, lengths, enforce_sorted=False))
        padded, whole = pad_packed_sequence(packed)[0], keyed(module, x)[0]
        for n, length in enumerate(lengths.tolist()):
            assert torch.allclose(padded[:length, n], whole[:length, n], rtol=1e-12, atol=1e-14)
            end = keyed(module, x[:length])[1]
            for a, b in zip(last if kind == "lstm" else [last], end if kind == "lstm" else [end], strict=True):
                assert torch.allclose(a[:, n], b[:, n], rtol=1e-12, atol=1e-14)


@kinds
def test_gradients_to_second_order(kind):
    module = made(kind)
    x = data(3, 2, 3).requires_grad_()
    for training in (True, False):
        module.train(training)
        assert torch.autograd.gradcheck(lambda x, *_: keyed(module, x)[0], (x, *module.parameters()))
    assert torch.autograd.gradgradcheck(lambda x: keyed(module.train(), x)[0], (x,))


@kinds
def test_sites_state_and_copies(kind):
    module, x = made(kind, num_layers=2, dropout=0.4), data(4, 2, 3)
    cell = {"cell_zoneout": 0.6} if kind == "lstm" else {}
    assert {site.name: site.p for site in dk.sites(module)} == {**cell, "hidden_zoneout": 0.3, "between_dropout": 0.4}
    assert {site.kind for site in dk.sites(module)} == {"zoneout", "dropout"}
    assert list(module.state_dict()) == list(KINDS[kind][1](3, 5, 2).state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(keyed(other, x)[0], keyed(module, x)[0])
    module.hidden_p = 0.25
    assert module.hidden_zoneout.p == 0.25


@kinds
def test_functions_are_the_modules(kind):
    module, x = dk.name_streams(nn.ModuleDict({"m": made(kind, num_layers=2, dropout=0.4)}))["m"], data(4, 2, 3)
    cell = {"cell_p": 0.6} if kind == "lstm" else {}
    for training in (True, False):
        with dk.keyed(5):
            y = KINDS[kind][2](x, module.all_weights, None, 0.3, training, between_p=0.4, stream="m", **cell)[0]
        assert torch.equal(y, keyed(module.train(training), x)[0])
