import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import dropkit as dk
from dropkit.core.streams import checkpoint_contexts
from dropkit.kernels.native import ops as native
from dropkit.variants.weight_drop import WeightDrop, match_names, weight_drop

KINDS = [lambda: nn.LSTM(3, 4, 2, bidirectional=True), lambda: nn.GRU(3, 4, batch_first=True), lambda: nn.RNN(3, 4),
         lambda: nn.LSTM(3, 4, proj_size=2)]
kinds = pytest.mark.parametrize("make", KINDS)


def made(make, p=0.4, **options):
    torch.manual_seed(0)
    return WeightDrop(make().double(), p, **options), torch.randn(5, 2, 3, dtype=torch.float64)


def by_hand(module, seed=5):
    """A plain copy of the wrapped module with the masks of the contract in its weights, one draw a weight in order."""
    other = copy.deepcopy(module.module)
    with dk.keyed(seed), torch.no_grad():
        for name in module.names:
            parameter = other.get_parameter(name)
            parameter.copy_(dk.functional.dropout(parameter.clone(), module.p))
    return other


@kinds
def test_the_fused_module_runs_with_the_dropped_weights(make):
    module, x = made(make)
    before = {name: value.clone() for name, value in module.module.named_parameters()}
    with dk.keyed(5):
        output, state = module(x)
    other = by_hand(module)
    expected, last = other(x)
    assert torch.equal(output, expected)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))
    assert not torch.equal(output, module.module(x)[0])
    for name, value in module.module.named_parameters():  # and the module is as it was
        assert isinstance(value, nn.Parameter)
        assert torch.equal(value, before[name])
    assert torch.equal(module.eval()(x)[0], module.module(x)[0])


class Operators(TorchDispatchMode):
    """Notes which operators run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [lambda: nn.LSTM(16, 16, 2, bidirectional=True), lambda: nn.GRU(16, 16),
                                  lambda: nn.RNN(16, 16)])
def test_torchs_own_implementation_runs_as_without_it(make):
    """Operator for operator what the plain module runs, in single precision, where torch has a fused kernel for the LSTM."""
    torch.manual_seed(0)
    plain, x = make(), torch.randn(7, 3, 16)
    with Operators() as without:
        plain(x)
    with Operators() as within:
        WeightDrop(plain, 0.4)(x)
    dropping = len(within.names) - len(without.names)
    assert dropping > 0
    if native.KERNEL is not None:
        assert dropping <= 3 * 8  # a seed and a mask for each recurrent weight; the reference makes masks of many operators
    assert within.names[dropping:] == without.names
    if torch.backends.mkldnn.is_available() and isinstance(plain, nn.LSTM):
        assert any("mkldnn_rnn" in name for name in within.names)


@kinds
def test_gradients_reach_the_raw_weights(make):  # the original replaces the parameter, which then never learns
    module, x = made(make)
    with dk.keyed(5):
        module(x)[0].sum().backward()
    other = by_hand(module)
    other(x)[0].sum().backward()
    exact = 2**32 / (2**32 - int(0.4 * 2**32 + 0.5))
    for name, parameter in module.module.named_parameters():
        expected = other.get_parameter(name)
        factor = exact * (expected.detach() != 0).double() if name in module.names else 1.0
        assert torch.allclose(parameter.grad, expected.grad * factor, rtol=1e-12, atol=1e-14)
    assert bool((module.module.weight_hh_l0.grad != 0).any())


def test_an_optimiser_moves_the_raw_weights():
    module, x = made(KINDS[0])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    before = module.weight_hh_l0.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        module(x)[0].square().sum().backward()
        optimizer.step()
    assert not torch.equal(module.weight_hh_l0, before)
    module.eval()
    fresh = nn.LSTM(3, 4, 2, bidirectional=True).double()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(module(x)[0], fresh(x)[0])  # no stale copy of the weights is left anywhere


@kinds
def test_state_is_that_of_the_wrapped_module_both_ways(make):  # the original adds and removes "_raw"
    module, x = made(make)
    plain = make().double()
    assert list(module.state_dict()) == list(plain.state_dict())
    module(x)[0].sum().backward()
    assert list(module.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(module.state_dict())
    assert torch.equal(plain(x)[0], module.eval()(x)[0])
    other = make().double()
    assert module.load_state_dict(other.state_dict()) == ([], [])
    assert torch.equal(other(x)[0], module(x)[0])
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    assert make().double().load_state_dict(torch.load(file)) == ([], [])


def test_state_inside_a_model_and_of_wrappers_in_wrappers():
    def model(wrap):
        inner = nn.Sequential(wrap(nn.Linear(3, 3)), nn.BatchNorm1d(3))
        return nn.ModuleDict({"a": wrap(inner), "module": nn.Linear(3, 1)})

    torch.manual_seed(0)
    plain, wrapped = model(lambda m: m), model(lambda m: WeightDrop(m, names="*weight"))
    assert list(wrapped.state_dict()) == list(plain.state_dict())
    assert wrapped.load_state_dict(plain.state_dict()) == ([], [])
    assert torch.equal(wrapped["a"].module[0].module.weight, plain["a"][0].weight)
    assert model(lambda m: WeightDrop(m, names="*weight")).load_state_dict(wrapped.state_dict()) == ([], [])
    state = plain.state_dict()
    state["a.0.extra"] = state.pop("a.0.bias")
    with pytest.raises(RuntimeError, match=r"(?s)Missing key.*bias.*Unexpected key.*extra"):
        wrapped.load_state_dict(state)


def test_evaluation_uses_all_weights_and_draws_nothing():  # the original drops at evaluation in its variational mode
    module, x = made(KINDS[0], p=0.9)
    state = torch.get_rng_state()
    expected = module.module(x)[0]
    assert torch.equal(module.eval()(x)[0], expected)
    assert torch.equal(weight_drop(module.module, (x,), 0.9, False)[0], expected)
    assert torch.equal(state, torch.get_rng_state())


def test_the_mask_is_one_for_all_steps_and_examples():
    torch.manual_seed(0)
    rnn = nn.RNN(1, 8, bias=False, nonlinearity="relu", batch_first=True).double()
    with torch.no_grad():
        rnn.weight_hh_l0.copy_(torch.eye(8))
        rnn.weight_ih_l0.fill_(1.0)
    x = torch.ones(3, 6, 1, dtype=torch.float64)
    y, _ = weight_drop(rnn, (x,), 0.5)
    # Unit by unit: with its weight kept (doubled) h_t = 2 h_{t-1} + 1, dropped h_t = 1; a fresh mask would mix the two.
    kept = 2.0 ** torch.arange(1, 7, dtype=torch.float64) - 1
    for unit in range(8):
        column = y[0, :, unit]
        assert torch.equal(column, kept) or torch.equal(column, torch.ones_like(kept))
        assert torch.equal(y[:, :, unit], column.expand(3, 6))
    assert 0 < int((y[0, -1] == 1).sum()) < 8


def test_packed_sequences_and_states():
    module, x = made(lambda: nn.LSTM(3, 4, batch_first=True))
    x = x.transpose(0, 1).contiguous()
    packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    start = (torch.randn(1, 2, 4).double(), torch.randn(1, 2, 4).double())
    with dk.keyed(5):
        output, (h, _) = module(packed, start)
    with dk.keyed(5):
        again, _ = module(packed, hx=start)
    with dk.keyed(5):
        whole, _ = module(x, start)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    assert torch.equal(output.data, again.data)
    assert torch.allclose(padded[0], whole[0], rtol=1e-12, atol=1e-12)
    assert torch.allclose(padded[1, :3], whole[1, :3], rtol=1e-12, atol=1e-12)
    assert torch.allclose(h[0, 1], whole[1, 2], rtol=1e-12, atol=1e-12)


def test_attributes_of_the_wrapped_module():
    module, _ = made(lambda: nn.LSTM(3, 4, batch_first=True))
    assert (module.hidden_size, module.batch_first, module.num_layers) == (4, True, 1)
    assert module.weight_hh_l0 is module.module.weight_hh_l0
    module.flatten_parameters()
    for name in ("absent", "_absent"):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)
    with pytest.raises(AttributeError):
        WeightDrop.__new__(WeightDrop).hidden_size  # noqa: B018  as while unpickling: no endless recursion


def test_copies_are_independent():
    module, x = made(KINDS[0])
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
    with dk.keyed(5):
        expected = module(x)[0]
    for other in copies:
        with dk.keyed(5):
            assert torch.equal(other(x)[0], expected)
        assert list(other.state_dict()) == list(module.state_dict())
        other.load_state_dict({name: torch.zeros_like(value) for name, value in module.state_dict().items()})
        assert bool((other.weight_hh_l0 == 0).all())
    assert bool((module.weight_hh_l0 != 0).any())


def test_any_module_by_names_and_globs():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Conv1d(4, 2, 1))
    assert match_names(net, "*.weight") == ("0.weight", "2.weight")
    assert match_names(net, ["2.*", "0.weight", "2.bias"]) == ("0.weight", "2.weight", "2.bias")
    layer, x = nn.Linear(3, 4), torch.ones(1, 3)
    with dk.keyed(5):
        y = weight_drop(layer, (x,), 0.5, names="weight")
    with dk.keyed(5):
        assert torch.equal(y, F.linear(x, dk.functional.dropout(layer.weight, 0.5), layer.bias))
    assert repr(WeightDrop(layer, 0.5, "weight")).startswith("WeightDrop(\n  p=0.5, names=('weight',)")


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)).double()
    net[1].weight = net[0].weight
    module, x = WeightDrop(net, 0.5, "*weight"), torch.eye(4, dtype=torch.float64)
    assert module.names == ("0.weight",)
    with dk.keyed(5):
        y = module(x)
    with dk.keyed(5):
        weight = dk.functional.dropout(net[0].weight, 0.5)
    assert torch.allclose(y, (weight @ weight).mT, rtol=1e-12, atol=1e-12)


def test_each_weight_has_a_mask_of_its_own():
    layer = nn.LSTM(40, 40).double()
    seen = {}
    layer.register_forward_pre_hook(lambda m, _: seen.update({name: p != 0 for name, p in m.named_parameters()}))
    weight_drop(layer, (torch.zeros(1, 1, 40).double(),), 0.5, names=("weight*",))
    assert not torch.equal(seen["weight_ih_l0"], seen["weight_hh_l0"])  # equal by chance with probability 2^-6400


def test_a_rate_of_zero_counts_as_many_uses_as_there_are_weights():
    module, x = made(KINDS[0])
    follow = []
    for p in (0.4, 0.0):
        module.p = p
        with dk.keyed(5):
            module(x)
            follow.append(dk.functional.dropout(torch.ones(100)))
    assert torch.equal(*follow)


def test_a_rate_of_one_leaves_finite_gradients():
    module, x = made(KINDS[0], p=1.0)
    module(x)[0].sum().backward()
    assert bool((module.weight_hh_l0.grad == 0).all())
    assert bool(module.weight_ih_l0.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype):
    module = WeightDrop(nn.Linear(3, 4), 0.5, "weight").to(dtype)
    y = module(torch.ones(2, 3, dtype=dtype))
    y.sum().backward()
    assert (y.dtype, module.weight.grad.dtype) == (dtype, dtype)


def test_gradients_to_second_order():
    module, x = made(lambda: nn.RNNCell(3, 2))
    x = x[0, :1].requires_grad_()
    state = torch.randn(1, 2, dtype=torch.float64)

    def call(x, weight):
        module.module._parameters["weight_hh"] = weight
        return weight_drop(module.module, (x, state), 0.4, generator=torch.Generator().manual_seed(3))

    inputs = (x, module.module.weight_hh)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_checkpoints_recompute_the_same():
    module, x = made(KINDS[0])
    grads = []
    for checkpointed in (False, True):
        leaf = x.clone().requires_grad_()
        with dk.keyed(5):
            y = torch.utils.checkpoint.checkpoint(module, leaf, use_reentrant=False, context_fn=checkpoint_contexts)[0] \
                if checkpointed else module(leaf)[0]
        y.sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def test_compiled_at_any_rate_and_vmapped():
    torch.compiler.reset()
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    module, x, graphs = WeightDrop(net, 0.5, "*weight"), torch.randn(5, 3), []
    compiled = torch.compile(module, fullgraph=True, backend=lambda g, _: graphs.append(g) or g.forward)
    for p in (0.5, 0.1, 0.0, 1.0):
        module.p = p
        with dk.keyed(1):
            y = module(x)
        with dk.keyed(1):
            assert torch.allclose(compiled(x), y, rtol=1e-6, atol=1e-6)
    assert len(graphs) == 1
    module.p = 0.5
    same = torch.vmap(module, randomness="same")(torch.stack([x, x]))
    different = torch.vmap(module, randomness="different")(torch.stack([x, x]))
    assert torch.allclose(same[0], same[1])
    assert not torch.allclose(different[0], different[1])


@pytest.mark.parametrize(("names", "text"), [
    (("weight_hh_l7",), "parameter of the module; got 'weight_hh_l7'. The parameters are weight_ih_l0, weight_hh_l0"),
    (("weight*", "x*"), "got 'x\\*'"), ("", "got ''"), ((), "at least one weight is named")])
def test_wrong_names_are_refused(names, text):
    with pytest.raises(dk.InputError, match=text):
        WeightDrop(nn.LSTM(2, 2), names=names)
    with pytest.raises(dk.InputError, match=text):
        weight_drop(nn.LSTM(2, 2), (torch.ones(1, 1, 2),), names=names)


@pytest.mark.parametrize("training", [True, False])
def test_wrong_rates_are_refused(training):
    with pytest.raises(dk.InputError, match="probability of dropping"):
        weight_drop(nn.LSTM(2, 2), (torch.ones(1, 1, 2),), 1.5, training)
    with pytest.raises(dk.InputError, match="probability of dropping"):
        WeightDrop(nn.LSTM(2, 2), -0.5)
