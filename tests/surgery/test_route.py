import copy
import inspect
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

import dropkit as dk
from dropkit.core.intercept import THREAD
from dropkit.surgery.route import routing_of

sys.path.insert(0, str(Path(__file__).parent))
import nets

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def keyed(model, *x, seed=0):
    with dk.keyed(seed):
        return model(*(x or (X,)))


def drops(x, p, stream, seed=0):
    with dk.keyed(seed):
        return dk.functional.dropout(x, p, stream=stream)


class Twice(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, self.training), F.dropout(x, 0.5, self.training)


def swapped(model, x=X):
    return dk.swap(model, inputs=x)


def test_streams_are_named_by_path_function_and_order():
    first, second = keyed(swapped(nn.Sequential(Twice())))
    assert torch.equal(first, drops(X, 0.5, "0:dropout"))
    assert torch.equal(second, drops(X, 0.5, "0:dropout:1"))


def test_a_second_forward_has_masks_of_its_own():
    model, x = swapped(Twice()), torch.ones(200)
    with dk.keyed(0):
        masks = [*model(x), *model(x)]
    assert len({tuple(mask.tolist()) for mask in masks}) == 4


def test_masks_do_not_depend_on_other_modules():
    model = swapped(nn.Sequential(nets.Always(), Twice()))
    with dk.keyed(0):
        first = model[1](X)
    with dk.keyed(0):
        model[0](X)
        assert torch.equal(model[1](X)[0], first[0])


def test_torchs_seed_governs():
    model, outputs = swapped(nets.calls()), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(X))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_routes_nest_and_each_call_belongs_to_the_innermost():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.plain = Twice(), nn.Dropout(0.5)

        def forward(self, x):
            a, b = self.inner(x)
            return a, F.dropout(x, 0.5), b, self.plain(x), F.dropout(x, 0.5)

    outputs = keyed(swapped(Outer()))
    names = ("inner:dropout", ":dropout", "inner:dropout:1", "plain", ":dropout:1")
    for y, name in zip(outputs, names, strict=True):
        assert torch.equal(y, drops(X, 0.5, name)), name


def test_a_part_in_evaluation_counts_nothing_for_the_module_around_it():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Twice()

        def forward(self, x):
            self.inner(x)
            return F.dropout(x, 0.5)

    model = swapped(Outer())
    model.inner.eval()
    assert torch.equal(keyed(model), drops(X, 0.5, ":dropout"))


def test_subclasses_of_dropout_follow_keyed():
    model = dk.swap(nn.Sequential(nets.Own(0.5)))
    assert torch.equal(keyed(model), drops(X, 0.5, "0") + 1)
    assert torch.equal(model.eval()(X), X + 1)


def test_modules_that_drop_in_evaluation_follow_keyed_there():
    class Sampling(nn.Dropout):
        def forward(self, input):
            return F.dropout(input, self.p, training=True)

    model = dk.swap(nn.Sequential(Sampling(0.5))).eval()
    assert torch.equal(keyed(model), drops(X, 0.5, "0"))


def test_functions_that_drop_in_evaluation_follow_keyed_there():
    model = swapped(nets.Always()).eval()
    assert torch.equal(keyed(model), keyed(model))
    assert not torch.equal(keyed(model), keyed(model, seed=1))


ATTENTION = [{}, {"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6, "vdim": 4}]


@pytest.mark.parametrize("options", ATTENTION, ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_weights_are_torchs_with_dropkits_mask(options, batch_first):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=batch_first, **options)
    q = torch.randn(3, 3, 8)
    k, v = torch.randn(3, 3, options.get("kdim", 8)), torch.randn(3, 3, options.get("vdim", 8))
    arguments = {"attn_mask": torch.ones(3, 3, dtype=torch.bool).triu(1), "average_attn_weights": False}
    model.dropout = 0.0
    weights = model(q, k, v, **arguments)[1]
    model.dropout = 0.5
    dk.swap(model)
    with dk.keyed(0):
        y, dropped = model(q, k, v, **arguments)
    assert torch.equal(dropped, drops(weights, 0.5, ""))
    with dk.keyed(0):
        assert torch.equal(model(q, k, v, **arguments)[0], y)


def test_attention_without_weights_has_the_same_mask():
    """Both ways are the same product up to rounding: sums of 8 products of numbers of order 1, in float64."""
    model = dk.swap(nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True, dtype=torch.float64))
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    with dk.keyed(0):
        with_weights = model(x, x, x, need_weights=True)[0]
    with dk.keyed(0):
        without = model(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(without, with_weights, rtol=0, atol=1e-12)
    with dk.disabled(model):
        assert not torch.allclose(model(x, x, x, need_weights=False)[0], without)


def test_attention_at_rate_zero_is_torchs():
    model = nn.MultiheadAttention(8, 2, dropout=0.0)
    expected = model(X, X, X)
    for y, z in zip(dk.swap(model)(X, X, X), expected, strict=True):
        assert torch.equal(y, z)


def test_evaluation_keeps_the_fused_path(monkeypatch):
    calls = []
    fused = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *args: calls.append(1) or fused(*args))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x):
            return F.dropout(self.encoder(x), 0.1, self.training)

    model, x = Net().eval(), X[None]
    with torch.no_grad():
        expected = model(x)
        swapped(model, x)
        assert torch.equal(model(x), expected)
    assert len(calls) == 4


@pytest.mark.parametrize("build", [
    lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
    lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2),
    lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)])
def test_torchs_transformers(build):
    model, x = build(), X[None]
    inputs = (x,) if isinstance(model, nn.TransformerEncoder) else (x, x)
    expected, keys = model.eval()(*inputs), list(model.state_dict())
    dk.swap(model)
    assert torch.equal(model(*inputs), expected)
    assert list(model.state_dict()) == keys
    model.train()
    assert torch.equal(keyed(model, *inputs), keyed(model, *inputs))
    assert not torch.equal(keyed(model, *inputs), keyed(model, *inputs, seed=1))
    dk.set_rate(model, 0.0)
    assert torch.equal(model(*inputs), model(*inputs))


def test_nothing_shows():
    model = nets.calls()
    text, attributes = repr(model), [set(vars(module)) for module in model.modules()]
    swapped(model)
    routed = [module for module in model.modules() if routing_of(module) is not None]
    assert len(routed) == 4
    assert repr(model) == text
    assert all(isinstance(module, nets.Calls | nets.Own | nn.MultiheadAttention) for module in routed)
    assert list(inspect.signature(model[0].forward).parameters) == ["x"]
    dk.swap(model, to="torch")
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert [type(module) for module in model.modules()] == [type(module) for module in nets.calls().modules()]


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_routed_and_their_own(again):
    model = swapped(nets.calls()[0])
    other = again(model)
    assert type(other) is type(model)
    assert torch.equal(keyed(other), keyed(model))
    if again is not copy.copy:
        dk.set_rate(other, 0.9)
        assert [site.p for site in dk.sites(model)] == [0.3, 0.2, 0.4, 0.1]
    for parameter in other.parameters():
        parameter.data.zero_()
    assert again is copy.copy or model.proj.weight.any()


def test_replicas_run_on_their_own_parameters():
    """What DataParallel does on several devices: a shallow copy whose parameters are replaced."""
    model = swapped(nets.calls()[0])
    replica = model._replicate_for_data_parallel()
    replica.proj = nn.Linear(8, 8)
    assert not torch.equal(keyed(replica), keyed(model))


def test_classes_are_made_once_and_forgotten():
    class Local(Twice):
        pass

    one, two = swapped(Local()), swapped(Local())
    assert type(one) is type(two)
    assert type(one) is not Local
    assert type(one).__name__ == "Local"


def test_a_class_with_a_pickling_of_its_own_says_so():
    class Own(Twice):
        def __reduce__(self):
            return Own, ()

    with pytest.raises(dk.InputError, match="a routed module is pickled as PyTorch pickles modules"):
        pickle.dumps(swapped(Own()))


def test_hooks_stay():
    model, calls = nets.calls(), []
    model[0].register_forward_hook(lambda module, args, output: calls.append(type(module).__name__))
    swapped(model)
    calls.clear()
    model(X)
    dk.swap(model, to="torch")
    model(X)
    assert calls == ["Calls", "Calls"]


def test_an_error_leaves_nothing_behind():
    class Bad(nn.Module):
        def forward(self, x, fail=False):
            x = F.dropout(x)
            if fail:
                raise KeyboardInterrupt
            return x

    model = swapped(Bad())
    with pytest.raises(KeyboardInterrupt):
        model(X, fail=True)
    assert THREAD.interceptor is None
    assert torch.overrides._get_current_function_mode() is None


def test_gradients_are_those_of_the_mask():
    model, x = swapped(Twice()), X.clone().requires_grad_()
    y, _ = keyed(model, x)
    y.sum().backward()
    assert torch.equal(x.grad, drops(torch.ones_like(X), 0.5, ":dropout"))


def test_a_checkpointed_module_makes_its_masks_again():
    model = nn.Sequential(nn.Linear(8, 8), nets.Always())
    swapped(model)
    grads = []
    for run in (lambda: model(X), lambda: model[1](model[0](X)),
                lambda: checkpoint(model[1], model[0](X), use_reentrant=False)):
        model.zero_grad()
        torch.manual_seed(3)
        run().sum().backward()
        grads.append(model[0].weight.grad.clone())
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_a_checkpoint_of_a_part_of_a_forward_is_refused():
    class Part(nn.Module):
        def forward(self, x):
            return checkpoint(lambda y: F.dropout(y), x, use_reentrant=False)

    model = nn.Sequential(Part())
    with pytest.raises(dk.InputError, match=r"routed again; got the site '0:dropout' in a part of its module's forward"):
        swapped(model)
    assert type(model[0]) is Part


def test_parametrised_modules():
    class Double(nn.Module):
        def forward(self, w):
            return 2 * w

    attention = nn.Sequential(nn.Dropout(), nn.MultiheadAttention(8, 2, dropout=0.1))
    parametrize.register_parametrization(attention[1], "in_proj_weight", Double())
    with pytest.raises(dk.InputError, match="got a parametrised module at '1'"):
        dk.swap(attention)
    assert type(attention[0]) is nn.Dropout

    leaf = nets.calls()
    parametrize.register_parametrization(leaf[0].proj, "weight", Double())
    assert torch.equal(keyed(swapped(leaf)), keyed(leaf))  # a layer that makes no call may be parametrised

    later = dk.swap(nn.MultiheadAttention(8, 2, dropout=0.1))
    parametrize.register_parametrization(later, "in_proj_weight", Double())
    with pytest.raises(dk.InputError, match="goes back to torch as it was swapped"):
        dk.swap(later, to="torch")
    parametrize.remove_parametrizations(later, "in_proj_weight")
    assert type(dk.swap(later, to="torch")) is nn.MultiheadAttention


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_scripts_graphs_and_replaced_forwards_are_refused():
    graph = nn.Sequential(nn.Dropout(), torch.fx.symbolic_trace(Twice()))
    replaced = nn.Sequential(nn.Dropout(), nets.Always())
    replaced[1].forward = replaced[1].forward
    script = nn.Sequential(nn.Dropout(), torch.jit.trace(nn.Dropout().eval(), X))
    for model, what in ((graph, "an fx graph"), (replaced, "was replaced on the instance"), (script, "a scripted or traced")):
        with pytest.raises(dk.InputError, match=f"has an ordinary forward; got .*{what}"):
            swapped(model)
        assert type(model[0]) is nn.Dropout


@pytest.mark.parametrize(("build", "backend"), [
    (lambda: nn.Sequential(nets.Calls()), "eager"), pytest.param(nets.calls, "eager", marks=pytest.mark.slow),
    pytest.param(nets.calls, "aot_eager", marks=pytest.mark.slow)])
def test_compiled_after_the_swap(build, backend):
    torch.compiler.reset()
    model = swapped(build())
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    assert torch.equal(keyed(compiled), keyed(model))
    dk.set_rate(compiled, {"0:dropout": 0.9, "0:scaled*": 0.2})
    assert torch.equal(keyed(compiled), keyed(model))


def test_new_rates_of_calls_compile_nothing():
    torch.compiler.reset()
    frames = []

    def backend(graph, inputs):
        frames.append(graph)
        return graph.forward

    model = swapped(nn.Sequential(Twice()))
    dk.set_rate(model, 0.3)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    keyed(compiled)
    for rate in (0.9, 1.0):
        dk.set_rate(model, rate)
        assert torch.equal(keyed(compiled)[0], keyed(model)[0])
    assert len(frames) == 1


@pytest.mark.parametrize("compiled", [lambda model: torch.compile(model, backend="eager"),
                                      lambda model: model.compile(backend="eager") or model])
def test_compiled_before_the_swap(compiled):
    torch.compiler.reset()
    model = nn.Sequential(Twice())
    other = compiled(model)
    other(X)
    swapped(other)
    assert torch.equal(keyed(other)[0], drops(X, 0.5, "0:dropout"))
    dk.swap(other, to="torch")
    torch.manual_seed(0)
    y = other(X)[0]
    torch.manual_seed(0)
    assert torch.equal(y, Twice()(X)[0])
