import copy
import io
import pickle
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import dropkit as dk
from dropkit.core.rates import WHOLE, threshold
from dropkit.kernels.native import ops as native
from dropkit.variants.variational_rnn import variational_gru, variational_lstm, variational_rnn

sys.path.insert(0, str(Path(__file__).parent))
from rnn_oracle import GATES, mask, sequence

KINDS = {"lstm": (dk.nn.VariationalLSTM, nn.LSTM, variational_lstm), "gru": (dk.nn.VariationalGRU, nn.GRU, variational_gru),
         "rnn": (dk.nn.VariationalRNN, nn.RNN, variational_rnn)}
kinds = pytest.mark.parametrize("kind", KINDS)
SITES = ("input_dropout", "recurrent_dropout", "between_dropout", "output_dropout")
ALL = dict(input_p=0.2, recurrent_p=0.4, output_p=0.3)


def made(kind, *sizes, **options):
    torch.manual_seed(0)
    module = KINDS[kind][0](*(sizes or (3, 5)), **options).double()
    return dk.name_streams(module)


def data(*shape):
    torch.manual_seed(1)
    return torch.randn(*shape, dtype=torch.float64)


def keyed(module, *inputs, seed=5):
    with dk.keyed(seed):
        return module(*inputs)


def states(last):
    return last if isinstance(last, tuple) else (last,)


@kinds
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("per", ["sequence", "step"])
def test_values_are_those_written_down(kind, tied, per):
    """Two layers in both directions, every site acting, each mask drawn by hand from its site's stream in order."""
    module = made(kind, num_layers=2, bidirectional=True, dropout=0.5, tied=tied, per=per, **ALL)
    x = data(4, 2, 3)
    got = keyed(module, x)[0]
    gates = GATES[module.mode]
    with dk.keyed(5), torch.no_grad():
        y = x
        for layer in range(2):
            width = y.shape[-1]
            if layer == 0:
                entering = mask((1 if tied else gates, 2, width), 0.2, "input_dropout").expand(gates, 2, width)
            elif per == "step":
                y = y * mask((4, 2, width), 0.5, "between_dropout")
                entering = torch.ones(gates, 2, width).double()
            else:
                entering = mask((1 if tied else gates, 2, width), 0.5, "between_dropout").expand(gates, 2, width)
            outputs = []
            for direction in range(2):
                weights = module.all_weights[2 * layer + direction]
                recurrent = mask((1 if tied else gates, 2, 5), 0.4, "recurrent_dropout").expand(gates, 2, 5)
                order = range(3, -1, -1) if direction else range(4)
                outputs.append(torch.stack([sequence(module.mode, weights, y[:, n], entering[:, n], recurrent[:, n], order)
                                            for n in range(2)], 1))
            y = torch.cat(outputs, -1)
        y = y * mask((1, 2, 10), 0.3, "output_dropout")
    assert torch.allclose(got, y, rtol=1e-12, atol=1e-14)


@kinds
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True, "bias": False}])
def test_without_noise_it_is_torchs_module(kind, options):
    ours, plain = made(kind, **options), KINDS[kind][1](3, 5, **options).double()
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert isinstance(ours, KINDS[kind][1])
    plain.load_state_dict(ours.state_dict())
    x = data(4, 2, 3)
    for module in (ours, made(kind, **ALL, **options).eval()):  # at rate 0, and in evaluation: the very same kernel
        output, last = module(x)
        expected, end = plain(x)
        assert torch.equal(output, expected)
        assert all(torch.equal(a, b) for a, b in zip(states(last), states(end), strict=True))
    ours.recurrent_p = 2.0**-40  # rounds to 0 out of 2^32: the own kernel, with masks of ones
    output, last = ours(x)
    assert torch.allclose(output, expected, rtol=1e-12, atol=1e-14)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(states(last), states(end), strict=True))


def test_projections_are_torchs():
    plain, ours = nn.LSTM(3, 5, 2, proj_size=2, bidirectional=True).double(), made("lstm", num_layers=2, proj_size=2,
                                                                                   bidirectional=True, recurrent_p=2.0**-40)
    plain.load_state_dict(ours.state_dict())
    (y, (h, c)), (expected, (end, memory)) = ours(data(4, 2, 3)), plain(data(4, 2, 3))
    for a, b in ((y, expected), (h, end), (c, memory)):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)
    ours.recurrent_p = 0.5
    assert not torch.allclose(ours(data(4, 2, 3))[0], expected)


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_a_sequence_has_exactly_one_mask_at_all_steps(p):
    """A unit that feeds only itself is 0 from the first step on, or grows by exactly 1 / (1 - p) at each."""
    scale = WHOLE / (WHOLE - threshold(p))
    module = made("rnn", 1, 40, nonlinearity="relu", bias=False, recurrent_p=p)
    with torch.no_grad():
        module.weight_ih_l0.zero_()
        module.weight_hh_l0.copy_(torch.eye(40))
    start = torch.ones(1, 8, 40, dtype=torch.float64, requires_grad=True)
    y, _ = module(torch.zeros(6, 8, 1, dtype=torch.float64), start)
    kept = y[0] != 0
    expected = torch.cumprod(torch.full((6, 1, 1), scale, dtype=torch.float64), 0)
    assert torch.equal(y, torch.where(kept, expected, 0))
    assert len({tuple(row) for row in kept.tolist()}) == 8  # other sequences have other masks; alike with probability 2^-24
    grad, = torch.autograd.grad(y[-1].sum(), start)  # and the backward pass has the mask of the forward pass
    assert torch.equal(grad[0], torch.where(kept, expected[-1], 0))
    assert abs(float(kept.double().mean()) - (1 - p)) < 5 * (p * (1 - p) / 320) ** 0.5  # false alarm: 6 in 10^7


@pytest.mark.parametrize(("site", "layers"), [("input_p", 1), ("output_p", 1), ("dropout", 2)])
def test_other_masks_are_one_for_a_sequence_too(site, layers):
    """Identity layers let a mask through as it is."""
    module = made("rnn", 6, 6, num_layers=layers, nonlinearity="relu", bias=False, **{site: 0.5})
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.eye(6) if "ih" in name else torch.zeros(6, 6))
    y, _ = module(torch.ones(7, 9, 6, dtype=torch.float64))
    assert torch.equal(y, y[:1].expand_as(y))
    assert y.unique().tolist() == [0.0, 2.0]
    assert not torch.equal(y[0, 0], y[0, 1]) or not torch.equal(y[0, 0], y[0, 2])


def test_masks_per_step_between_layers_are_torchs_law():
    module = made("rnn", 6, 6, num_layers=2, nonlinearity="relu", bias=False, dropout=0.5, per="step")
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(torch.eye(6) if "ih" in name else torch.zeros(6, 6))
    y, _ = module(torch.ones(7, 9, 6, dtype=torch.float64))
    assert y.unique().tolist() == [0.0, 2.0]
    assert not torch.equal(y, y[:1].expand_as(y))
    assert type(module.between_dropout) is dk.nn.Dropout
    assert module.per == "step"


@kinds
def test_rate_one_drops_everything(kind):  # Keras takes a recurrent rate of 1 for none
    module, x = made(kind, recurrent_p=1.0), data(4, 2, 3).requires_grad_()
    plain = KINDS[kind][1](3, 5).double()
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        plain.weight_hh_l0.zero_()
    y = module(x)[0]
    assert torch.allclose(y, plain(x)[0], rtol=1e-12, atol=1e-14)
    y.sum().backward()
    assert bool((module.weight_hh_l0.grad == 0).all())
    module.recurrent_p, module.input_p = 0.0, 1.0
    plain.load_state_dict(module.state_dict())
    assert torch.equal(module(torch.full_like(x, torch.nan))[0], plain(torch.zeros_like(x))[0])
    y = module(x)[0]
    grad, = torch.autograd.grad(y.sum(), x)
    assert bool((grad == 0).all())
    assert bool(module(torch.full_like(x, torch.nan))[0].isfinite().all())
    module.output_p = 1.0
    assert bool((module(x)[0] == 0).all())


@kinds
def test_a_recurrent_rate_leaves_the_input_mask_tied(kind):  # Keras unties it silently
    module = made(kind, input_p=0.5, recurrent_p=0.3)
    x = data(4, 2, 3).requires_grad_()
    gates = keyed(module, x)[0]
    dropped, = torch.autograd.grad(gates.sum(), x)
    with dk.keyed(5):
        expected = dk.functional.dropout(torch.ones(1, 2, 3), 0.5, stream="input_dropout") == 0
    assert torch.equal(dropped == 0, expected.expand(4, 2, 3))  # untied, all gates would have to agree by chance


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_untied_gates_have_masks_of_their_own(kind):
    module = made(kind, 40, 30, input_p=0.5, tied=False)
    x = torch.eye(40, dtype=torch.float64)[None]  # a sequence a feature
    seen = {}
    torch.nn.init.ones_(module.weight_ih_l0)
    with dk.keyed(5):
        masks = dk.functional.dropout(torch.ones(GATES[module.mode], 40, 40), 0.5, stream="input_dropout")
    y = keyed(module, x)[0]
    for n in range(40):
        pattern = tuple((masks[:, n, n] != 0).tolist())
        seen.setdefault(pattern, []).append(y[0, n])
    assert len(seen) > 4
    for rows in seen.values():  # what comes out is a function of which gates saw the feature
        assert all(torch.allclose(row, rows[0], rtol=1e-12) for row in rows)


@kinds
def test_packed_sequences_get_the_masks_of_the_padded_ones(kind):
    for per in ("sequence", "step"):
        for tied in (True, False):
            module = made(kind, num_layers=2, dropout=0.5, tied=tied, per=per, batch_first=True, **ALL)
            x, lengths = data(3, 5, 3), torch.tensor([3, 5, 2])
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            output, last = keyed(module, packed)
            assert isinstance(output, PackedSequence)
            padded, found = pad_packed_sequence(output, batch_first=True)
            assert torch.equal(found, lengths)
            whole, _ = keyed(module, x)
            for n, length in enumerate(lengths.tolist()):
                assert torch.allclose(padded[n, :length], whole[n, :length], rtol=1e-12, atol=1e-14)
                end = keyed(module, x[:, :length])[1]  # of the whole batch cut at this sequence's end
                for a, b in zip(states(last), states(end), strict=True):
                    assert torch.allclose(a[:, n], b[:, n], rtol=1e-12, atol=1e-14)


@kinds
def test_packed_sequences_in_both_directions_and_any_order(kind):
    module = made(kind, num_layers=2, bidirectional=True, recurrent_p=2.0**-40)
    plain = KINDS[kind][1](3, 5, 2, bidirectional=True).double()
    plain.load_state_dict(module.state_dict())
    x, lengths = data(5, 3, 3), torch.tensor([3, 5, 2])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    start = plain(x)[1]
    (output, last), (expected, end) = module(packed, start), plain(packed, start)
    assert torch.allclose(output.data, expected.data, rtol=1e-12, atol=1e-14)
    for a, b in zip(states(last), states(end), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)
    module = made(kind, num_layers=2, bidirectional=True, dropout=0.5, **ALL)
    full, _ = keyed(module, pack_padded_sequence(x, torch.tensor([5, 5, 5])))
    assert torch.allclose(pad_packed_sequence(full)[0], keyed(module, x)[0], rtol=1e-12, atol=1e-14)
    many = pad_packed_sequence(keyed(module, packed)[0])[0]
    for n, length in enumerate(lengths.tolist()):  # each sequence as in a batch in which all are as long as it
        cut = keyed(module, pack_padded_sequence(x[:length], torch.tensor([length] * 3)))[0]
        assert torch.allclose(many[:length, n], pad_packed_sequence(cut)[0][:, n], rtol=1e-12, atol=1e-14)


@kinds
def test_either_layout_and_single_sequences(kind):  # the original locked dropout knows only time first
    time_first, batch_first = made(kind, **ALL), made(kind, batch_first=True, **ALL)
    x = data(4, 2, 3)
    y, last = keyed(time_first, x)
    z, end = keyed(batch_first, x.transpose(0, 1))
    assert torch.allclose(y, z.transpose(0, 1), rtol=1e-12, atol=1e-14)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(states(last), states(end), strict=True))
    for module in (time_first, batch_first):
        single, end = keyed(module, x[:, 0])
        one, whole = keyed(time_first, x[:, :1])
        assert torch.allclose(single, one[:, 0], rtol=1e-12, atol=1e-14)
        assert all(torch.allclose(a, b[:, 0], rtol=1e-12, atol=1e-14) for a, b in zip(states(end), states(whole), strict=True))


@kinds
def test_first_states_are_masked_like_others(kind):
    module, x = made(kind, **ALL), data(4, 2, 3)
    first, last = keyed(module, x[:2])
    rest = keyed(module, x[2:], last)[0]
    whole = keyed(module, x)[0]
    assert torch.allclose(torch.cat((first, rest)), whole, rtol=1e-12, atol=1e-14)


def test_dropout_of_one_layer_warns_as_torch_does_and_does_nothing():  # pytorch#5985
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        module = dk.nn.VariationalLSTM(3, 5, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dk.nn.VariationalLSTM(3, 5, 2, dropout=0.5)
    x = torch.randn(4, 2, 3)
    assert torch.equal(module(x)[0], module.eval()(x)[0])


@kinds
def test_sites_are_the_children_and_nothing_else(kind):
    model = nn.ModuleDict({"rnn": made(kind, num_layers=2, dropout=0.5, **ALL), "drop": dk.nn.Dropout(0.1)})
    found = {site.name: site.p for site in dk.sites(model)}
    assert found == {"rnn.input_dropout": 0.2, "rnn.recurrent_dropout": 0.4, "rnn.between_dropout": 0.5,
                     "rnn.output_dropout": 0.3, "drop": 0.1}
    assert dk.set_rate(model, {"rnn.recurrent_dropout": 0.25}) == {"rnn.recurrent_dropout": 0.4}
    assert model["rnn"].recurrent_p == 0.25
    model["rnn"].dropout = 0.125
    assert model["rnn"].between_dropout.p == 0.125 == model["rnn"].dropout
    dk.name_streams(model)
    assert [getattr(model["rnn"], site).stream for site in SITES] == [f"rnn.{site}" for site in SITES]
    assert not any(key.endswith("rate") or "dropout" in key for key in model["rnn"].state_dict())
    assert "dropout" not in vars(model["rnn"])


@kinds
def test_streams_tell_sites_and_modules_apart(kind):
    module, other, x = made(kind, recurrent_p=0.4), made(kind, recurrent_p=0.4), data(4, 2, 3)
    y = keyed(module, x)[0]
    other.recurrent_dropout.stream = "elsewhere"
    assert not torch.equal(keyed(other, x)[0], y)
    other.recurrent_dropout.stream = module.recurrent_dropout.stream
    other.input_dropout.stream = "elsewhere"  # at rate 0
    assert torch.equal(keyed(other, x)[0], y)
    unnamed = [copy.deepcopy(module) for _ in range(2)]
    for one in unnamed:
        for site in SITES:
            getattr(one, site).stream = None
    unnamed[0].input_p, unnamed[0].output_p = 0.2, 0.0
    unnamed[1].input_p, unnamed[1].output_p = 0.2, 0.3
    y, z = (keyed(one, x)[1] for one in unnamed)  # a rate of 0 counts as a use: the last states, which no output mask
    assert all(torch.equal(a, b) for a, b in zip(states(y), states(z), strict=True))  # touches, are alike


@kinds
def test_children_decide_alone_whether_they_act(kind):
    """Monte Carlo dropout turns sites on in a model that evaluates, and off in one that trains."""
    module, x = made(kind, num_layers=2, dropout=0.5, **ALL), data(4, 2, 3)
    expected = module.eval()(x)[0]
    module.recurrent_dropout.train()
    assert not torch.equal(module(x)[0], expected)
    module.train()
    for site in SITES:
        getattr(module, site).eval()
    assert torch.equal(module(x)[0], expected)


@kinds
def test_surgery_may_put_other_dropout_in_a_childs_place(kind):
    module, x = made(kind, num_layers=2, dropout=0.5, per="step"), data(4, 2, 3)
    y, ours = keyed(module, x)[0], module.between_dropout
    module.between_dropout = nn.Dropout(0.5)
    assert (module.dropout, module.per) == (0.5, "step")
    torch.manual_seed(3)
    one = module(x)[0]
    torch.manual_seed(3)
    assert torch.equal(module(x)[0], one)
    assert not torch.equal(module.eval()(x)[0], one)
    module.train().between_dropout = ours
    assert torch.equal(keyed(module, x)[0], y)
    module.between_dropout = nn.Identity()
    assert torch.equal(module(x)[0], module.eval()(x)[0])
    assert module.dropout == 0.0


@kinds
def test_functions_are_the_modules(kind):
    module, x = made(kind, num_layers=2, bidirectional=True, dropout=0.5, **ALL), data(4, 2, 3)
    module = dk.name_streams(nn.ModuleDict({"m": module}))["m"]
    function = KINDS[kind][2]
    with dk.keyed(5):
        y, last = function(x, module.all_weights, None, 0.4, input_p=0.2, between_p=0.5, output_p=0.3, bidirectional=True,
                           stream="m")
    expected, end = keyed(module, x)
    assert torch.equal(y, expected)
    assert all(torch.equal(a, b) for a, b in zip(states(last), states(end), strict=True))
    one, two = (function(x, module.all_weights, bidirectional=True, generator=torch.Generator().manual_seed(s))[0]
                for s in (3, 3))
    assert torch.equal(one, two)
    assert torch.equal(function(x, module.all_weights, bidirectional=True, training=False)[0], module.eval()(x)[0])


@pytest.mark.slow
@kinds
def test_compiled_functions_make_one_operator_and_the_same_masks(kind):
    torch.compiler.reset()
    from torch._dynamo.backends.registry import lookup_backend

    graphs, nodes, counts, backend = [], [], [], lookup_backend("aot_eager")
    module, x = made(kind, num_layers=2, dropout=0.5), data(30, 2, 3).requires_grad_()
    function, weights = KINDS[kind][2], module.all_weights

    def run(p):
        return function(x, weights, None, p, input_p=0.2, tied=False)[0]

    def count(graph, inputs):
        graphs.append(graph)
        nodes.append(len(graph.graph.nodes))
        return backend(graph, inputs)

    compiled = torch.compile(run, fullgraph=True, dynamic=False, backend=count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for p in (0.5, 0.25):
            found = []
            for call in (run, compiled):
                torch.manual_seed(3)
                y = call(torch.tensor(p, dtype=torch.float64))
                found.append((y.detach(), *torch.autograd.grad(y.square().sum(), x)))
            assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(*found, strict=True))
            counts.append(len(graphs))
    assert counts[0] == counts[1]  # another rate compiles nothing
    if dk.backends()[0].backend == "native":
        assert max(nodes) < 120  # thirty steps of a loop would be thousands


@pytest.mark.slow
@kinds
def test_compiled_modules_where_dynamo_allows_them(kind):
    import torch._dynamo.config

    torch.compiler.reset()
    module, x = made(kind, num_layers=2, dropout=0.5, recurrent_p=0.4), data(4, 2, 3)
    with warnings.catch_warnings(), torch._dynamo.config.patch(allow_rnn=True):
        warnings.simplefilter("ignore")
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        for p in (0.4, 0.0, 1.0):
            module.recurrent_p = p
            assert torch.allclose(keyed(compiled, x)[0], keyed(module, x)[0], rtol=1e-12, atol=1e-14)


@pytest.mark.slow  # the contract suite and tests/kernels/test_recurrent.py check gradients quickly
@kinds
@pytest.mark.parametrize("options", [dict(tied=False), dict(per="step")])
def test_gradients_to_second_order(kind, options):
    module = made(kind, 2, 2, num_layers=2, dropout=0.5, bidirectional=True, **options, **ALL)
    x = data(2, 2, 2).requires_grad_()

    def run(x, *_):
        y, last = keyed(module, x)
        return (y, *states(last))

    assert torch.autograd.gradcheck(run, (x, *module.parameters()))
    assert torch.autograd.gradgradcheck(lambda x: run(x)[0], (x,))


@kinds
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_single(kind, dtype):
    module = made(kind, num_layers=2, dropout=0.5, **ALL)
    x = data(4, 2, 3)
    low = module.to(dtype)
    y, last = keyed(low, x.to(dtype))
    assert y.dtype == dtype
    assert {part.dtype for part in states(last)} == {dtype}
    exact = keyed(copy.deepcopy(low).float(), x.to(dtype).float())[0]
    assert torch.equal(y, exact.to(dtype))
    y.sum().backward()
    assert low.weight_hh_l0.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full = made(kind, **ALL).float()
        y = keyed(full, x.float())[0]
        if native.KERNEL is not None:
            y.sum().backward()  # inside autocast, which would round products of single precision, as those of the reference
    if native.KERNEL is None:
        y.sum().backward()
    other = made(kind, **ALL).float()
    z = keyed(other, x.float())[0]
    z.sum().backward()
    assert torch.equal(y, z)
    assert torch.equal(full.weight_hh_l0.grad, other.weight_hh_l0.grad)


@kinds
def test_copies_pickles_and_other_tools(kind):
    module, x = made(kind, num_layers=2, dropout=0.5, tied=False, per="step", **ALL), data(4, 2, 3)
    y = keyed(module, x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
        assert repr(other) == repr(module)
        assert torch.equal(keyed(other, x)[0], y)
    again = torch.func.functional_call(module, {name: 0 * value for name, value in module.named_parameters()}, (x,))[0]
    assert not torch.equal(again, y)
    assert torch.equal(keyed(module, x)[0], y)
    module.flatten_parameters()
    assert "tied=False, per='step'" in repr(module)
    meta = module.to("meta")(x.to("meta"))[0]
    assert meta.shape == y.shape


@kinds
def test_random_numbers_come_from_torch(kind):
    module, x = made(kind, **ALL), data(4, 2, 3)
    found = []
    for _ in range(2):
        torch.manual_seed(4)
        found.append(module(x)[0])
    assert torch.equal(*found)
    assert not torch.equal(module(x)[0], found[0])


@pytest.mark.parametrize(("change", "text"), [
    (lambda m: m(torch.zeros(3)), "3 dimensions"), (lambda m: m(torch.zeros(2, 2, 2, 2).double()), "3 dimensions"),
    (lambda m: m(torch.zeros(4, 2, 4).double()), "features as the weights take, 3"),
    (lambda m: m(torch.zeros(4, 2, 3)), "data and weights have one type"),
    (lambda m: m(torch.zeros(4, 2, 3).long()), "floating-point"),
    (lambda m: m(torch.zeros(4, 2, 3).double(), torch.zeros(1, 2, 5).double()), "first state has the shapes"),
    (lambda m: m(torch.zeros(4, 2, 3).double(), (torch.zeros(1, 2, 4).double(),) * 2), r"\(1, 2, 5\) and \(1, 2, 5\)"),
    (lambda m: m(torch.zeros(4, 3).double(), (torch.zeros(1, 1, 5).double(),) * 2), r"\(1, 5\) and \(1, 5\)"),
    (lambda m: variational_lstm(torch.zeros(4, 2, 3).double(), m.all_weights, bidirectional=True), "each layer and direction"),
    (lambda m: variational_lstm(torch.zeros(4, 2, 3).double(), m.all_weights, input_p=1.5, training=False), "probability"),
    (lambda m: variational_lstm(torch.zeros(4, 2, 3).double(), m.all_weights, per="day"), "per is"),
    (lambda m: variational_rnn(torch.zeros(4, 2, 3).double(), m.all_weights, nonlinearity="x"), "nonlinearity is"),
    (lambda m: setattr(m, "recurrent_p", 1.5), "probability")])
def test_bad_input_is_refused(change, text):
    with pytest.raises(dk.InputError, match=text):
        change(made("lstm", recurrent_p=0.3))


def test_no_steps_are_an_error_as_in_torch():
    for module in (nn.LSTM(3, 5), dk.nn.VariationalLSTM(3, 5, recurrent_p=0.3)):
        with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
            module(torch.zeros(0, 2, 3))
