import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dropkit as dk
from dropkit.variants.recurrent_dropout_rnn import recurrent_dropout_gru, recurrent_dropout_lstm, recurrent_dropout_rnn

sys.path.insert(0, str(Path(__file__).parent))
from rnn_oracle import GATES, mask, sequence

KINDS = {"lstm": (dk.nn.RecurrentDropoutLSTM, nn.LSTM, recurrent_dropout_lstm),
         "gru": (dk.nn.RecurrentDropoutGRU, nn.GRU, recurrent_dropout_gru),
         "rnn": (dk.nn.RecurrentDropoutRNN, nn.RNN, recurrent_dropout_rnn)}
kinds = pytest.mark.parametrize("kind", KINDS)
per = pytest.mark.parametrize("per", ["step", "sequence"])


def made(kind, p=0.4, **options):
    torch.manual_seed(0)
    return dk.name_streams(KINDS[kind][0](3, 5, recurrent_p=p, **options).double())


def data(*shape):
    torch.manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64)


def keyed(module, *inputs):
    with dk.keyed(5):
        return module(*inputs)


@kinds
@per
def test_values_are_those_written_down(kind, per):
    module, x = made(kind, bidirectional=True, per=per), data(4, 2, 3)
    got, gates = keyed(module, x)[0], GATES[module.mode]
    with dk.keyed(5), torch.no_grad():
        outputs = []
        for direction in range(2):
            drawn = mask((4 if per == "step" else 1, 2, 5), 0.4, "recurrent_dropout").expand(4, 2, 5)
            order = range(3, -1, -1) if direction else range(4)
            for n in range(2):
                states = {t: drawn[t, n].expand(gates, 5) for t in range(4)} if kind == "rnn" else torch.ones(gates, 5).double()
                outputs.append(sequence(module.mode, module.all_weights[direction], x[:, n], torch.ones(gates, 3).double(),
                                        states, order, candidate=None if kind == "rnn" else drawn[:, n]))
    expected = torch.cat([torch.stack(outputs[:2], 1), torch.stack(outputs[2:], 1)], -1)
    assert torch.allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@per
def test_memory_is_never_lost(kind, per):
    """With all candidates dropped a memory only decays by the gate that forgets; other dropouts would set units to 0."""
    module, x = made(kind, 1.0, per=per), torch.zeros(6, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    start = torch.ones(1, 2, 5, dtype=torch.float64)
    last = module(x, (start, start) if kind == "lstm" else start)[1]
    memory = last[1] if kind == "lstm" else last
    assert torch.equal(memory, start * 0.5**6)  # gates of sigmoid(0)


@kinds
def test_rate_zero_is_torchs_and_evaluation_too(kind):
    plain, x = KINDS[kind][1](3, 5, 2).double(), data(4, 2, 3)
    for module in (made(kind, 0.0, num_layers=2), made(kind, num_layers=2, dropout=0.5).eval()):
        plain.load_state_dict(module.state_dict())
        assert torch.equal(module(x)[0], plain(x)[0])


@kinds
@per
def test_packed_sequences_get_the_masks_of_the_padded_ones(kind, per):
    module, x, lengths = made(kind, num_layers=2, dropout=0.4, per=per), data(5, 3, 3), torch.tensor([3, 5, 2])
    packed = keyed(module, pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
    padded, whole = pad_packed_sequence(packed)[0], keyed(module, x)[0]
    for n, length in enumerate(lengths.tolist()):
        assert torch.allclose(padded[:length, n], whole[:length, n], rtol=1e-12, atol=1e-14)


@kinds
@per
def test_gradients_to_second_order(kind, per):
    module, x = made(kind, per=per), data(3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: keyed(module, x)[0], (x, *module.parameters()))
    assert torch.autograd.gradgradcheck(lambda x: keyed(module, x)[0], (x,))


@kinds
def test_sites_state_and_copies(kind):
    module, x = made(kind, num_layers=2, dropout=0.5, per="sequence"), data(4, 2, 3)
    assert [(site.name, site.kind, site.p) for site in dk.sites(module)] == [
        ("recurrent_dropout", "recurrent_dropout", 0.4), ("between_dropout", "dropout", 0.5)]
    assert list(module.state_dict()) == list(KINDS[kind][1](3, 5, 2).state_dict())
    assert "per='sequence'" in repr(module)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(keyed(other, x)[0], keyed(module, x)[0])


@kinds
@per
def test_functions_are_the_modules(kind, per):
    module = dk.name_streams(nn.ModuleDict({"m": made(kind, num_layers=2, dropout=0.5, per=per)}))["m"]
    x = data(4, 2, 3)
    with dk.keyed(5):
        y = KINDS[kind][2](x, module.all_weights, None, 0.4, per=per, between_p=0.5, stream="m")[0]
    assert torch.equal(y, keyed(module, x)[0])


@kinds
def test_bad_settings_are_refused(kind):
    for options in (dict(per="day"), dict(recurrent_p=1.5), dict(recurrent_p=-1)):
        with pytest.raises(dk.InputError):
            KINDS[kind][0](3, 5, **options)
