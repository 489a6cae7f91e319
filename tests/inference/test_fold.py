"""Folding: every architecture serves what it evaluated, without dropout, and what cannot be folded is refused by name."""

import copy
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

import dropkit as dk
from dropkit.inference.fold_rules import Scale
from dropkit.variants.site import StreamSite

sys.path.insert(0, str(Path(__file__).parents[1] / "surgery"))
from architectures import CASES, TORCH, TRANSFORMERS, call, tensors

QUICK = {**{f"own-{name}": case for name, case in CASES.items()}, **{f"torch-{name}": case for name, case in TORCH.items()}}
HEAVY = {f"transformers-{name}": case for name, case in TRANSFORMERS.items()}
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY)]


def build(name):
    torch.manual_seed(0)
    case = (QUICK | HEAVY)[name]
    return case.build(), case


def evaluated(model, inputs):
    with torch.no_grad():
        return [tensor.clone() for tensor in tensors(call(model.eval(), inputs))]


def close(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def droppers(model):
    return [name for name, module in model.named_modules() if isinstance(module, _DropoutNd | StreamSite) or (
        isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout != 0)]


@pytest.mark.parametrize("name", ALL)
def test_architectures_serve_what_they_evaluated(name):
    model, case = build(name)
    state = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    folded = dk.fold(model, case.inputs)
    assert [module.training for module in model.modules()] == modes
    assert droppers(folded) == []
    assert not any(module.training for module in folded.modules())
    assert list(folded.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    close(evaluated(folded, case.inputs), evaluated(model, case.inputs))


@pytest.mark.parametrize("name", ["own-functional", "own-tagger", "own-vit", "own-gpt", "own-unet", "torch-encoder",
                                  "torch-gru"])
def test_what_was_swapped_or_inserted_is_folded(name):
    model, case = build(name)
    dk.swap(model, inputs=case.inputs, recurrent="sequence")
    dk.insert(model, {place: make() for place, make in case.after.items()})
    dk.set_rate(model, 0.3)
    expected = evaluated(model, case.inputs)
    folded = dk.fold(model, case.inputs)
    close(evaluated(folded, case.inputs), expected)
    assert droppers(folded) == []
    assert not any("dropkit" in type(module).__module__ for module in folded.modules())
    assert len(dk.sites(model)) > 0


def test_classic_scaling_goes_into_the_next_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), dk.nn.Dropout(0.25, scaling="classic"), dk.nn.Dropout(0.5, scaling="classic"),
                          nn.Identity(), nn.Linear(6, 2)).eval()
    folded = dk.fold(model, torch.randn(3, 4))
    assert [type(module) for module in folded] == [nn.Linear, nn.Identity, nn.Identity, nn.Identity, nn.Linear]
    assert torch.equal(folded[4].weight, model[4].weight * 0.5 * 0.75)
    assert torch.equal(folded[4].bias, model[4].bias)
    assert type(model[1]) is dk.nn.Dropout


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_classic_scaling_goes_into_convolutions(padding_mode):
    model = nn.Sequential(dk.nn.DropPath(0.5, scaling="classic"), nn.Conv2d(3, 2, 3, padding=1, padding_mode=padding_mode))
    assert type(dk.fold(model, torch.randn(2, 3, 5, 5))[0]) is nn.Identity


def test_classic_scaling_stays_where_a_weight_or_a_way_is_shared():
    classic = dk.nn.Dropout(0.25, scaling="classic")
    layer = nn.Linear(3, 3)
    tied = nn.Linear(3, 3)
    tied.weight = layer.weight
    for model in (nn.Sequential(classic, layer, layer), nn.Sequential(classic, layer, tied), nn.Sequential(layer, classic),
                  classic, nn.Sequential(classic, nn.ReLU(), layer), nn.Sequential(classic, nn.Linear(3, 3), classic)):
        folded = dk.fold(model, torch.randn(2, 3))
        kept = [module for module in folded.modules() if isinstance(module, Scale)]
        assert [module.factor for module in set(kept)] == [0.75]


@pytest.mark.parametrize("make", [
    lambda layer: dk.nn.DropConnect(layer, 0.3), lambda layer: dk.nn.DropConnect(layer, 0.3, scaling="classic"),
    lambda layer: dk.nn.ConcreteDropout(layer, 0.3), lambda layer: dk.nn.Mixout(layer, 0.3),
    lambda layer: dk.nn.TargetedDropout(layer, 0.3), lambda layer: dk.nn.WeightDrop(layer, 0.3, "weight"),
    lambda layer: dk.nn.VariationalDropout(layer, initial_log_sigma2=-1.0), lambda layer: dk.nn.MultiSampleDropout(layer, 0.3)])
@pytest.mark.parametrize("layer", [lambda: nn.Linear(5, 3), lambda: nn.Conv2d(2, 4, 3, 2, 1, groups=2, padding_mode="circular"),
                                   lambda: nn.Conv1d(2, 3, 3, padding="same", bias=False)])
def test_layers_with_dropped_weights_become_plain(make, layer):
    torch.manual_seed(0)
    plain = layer()
    x = torch.randn({nn.Linear: (4, 5), nn.Conv2d: (4, 2, 6, 6), nn.Conv1d: (4, 2, 7)}[type(plain)])
    model = nn.Sequential(make(plain), nn.ReLU()).eval()
    folded = dk.fold(model, x)
    assert type(folded[0]) is type(plain)
    close([folded(x)], [model(x)])


def test_recurrent_modules_and_tables():
    x, tokens = torch.randn(5, 2, 3), torch.tensor([[1, 2, 0]])
    for kind, twin in ((dk.nn.VariationalLSTM, nn.LSTM), (dk.nn.RecurrentDropoutGRU, nn.GRU), (dk.nn.VariationalRNN, nn.RNN)):
        folded = dk.fold(kind(3, 4, 2, recurrent_p=0.3), x)
        assert (type(folded), folded.dropout) == (twin, 0.0)
    wrapped = dk.fold(dk.nn.WeightDrop(nn.LSTM(3, 4, 2, dropout=0.5), 0.5), x)
    assert (type(wrapped), wrapped.dropout) == (nn.LSTM, 0.0)
    table = dk.nn.EmbeddingDropout(nn.Embedding(4, 3, padding_idx=0), 0.5)
    assert repr(dk.fold(table, tokens)) == "Embedding(4, 3, padding_idx=0)"


class Always(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5)


class Own(nn.Dropout):
    def forward(self, input):
        return 2 * input


@pytest.mark.parametrize(("model", "text"), [
    (nn.Sequential(Always()), "'0:dropout' at test_fold.py"), (nn.Sequential(nn.Identity(), Own()), "a Own at '1'"),
    (nn.Sequential(dk.nn.DropConnect(nn.Linear(3, 3), inference="gaussian")), "random"),
    (nn.Sequential(dk.nn.Standout()), "a Standout at '0'"), (dk.nn.ZoneoutLSTM(3, 3, hidden_p=0.1), "a ZoneoutLSTM")])
def test_what_cannot_be_folded_is_named(model, text):
    before = repr(model)
    with pytest.raises(dk.InputError, match=text):
        dk.fold(model, torch.ones(2, 3))
    assert repr(model) == before


def test_without_inputs_only_the_structure_is_folded_and_only_on_request():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    with pytest.raises(dk.InputError, match="verified on inputs"):
        dk.fold(model)
    assert repr(dk.fold(model, verify=False)[1]) == "Identity()"


def test_other_outputs_are_noticed():
    class Asks(nn.Module):
        """Looks at its dropout's rate, which an Identity lacks."""

        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return x * getattr(self.drop, "p", 1.0)

    with pytest.raises(dk.InputError, match="outputs of the model in evaluation"):
        dk.fold(Asks(), torch.ones(2))
    with pytest.raises(dk.InputError, match="inserted site"):
        dk.fold(inserted(dk.nn.Dropout(0.5, scaling="classic")), torch.ones(2, 2))


def inserted(site):
    model = nn.Sequential(nn.Linear(2, 2))
    dk.insert(model, {"0": site})
    return model


def test_a_hook_on_a_site_is_not_lost_silently():
    model = nn.Sequential(nn.Dropout(0.5))
    model[0].register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(dk.InputError, match="hooks"):
        dk.fold(model, torch.ones(2))


def test_exported_programs_hold_no_dropout():
    model, case = build("own-vit")
    program = torch.export.export(dk.fold(model, case.inputs), case.inputs)
    assert not [node for node in program.graph.nodes if "dropout" in str(node.target)]
    close(tensors(program.module()(*case.inputs)), evaluated(model, case.inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["own-vit", "own-resnet", "own-tagger"])
def test_onnx_holds_no_dropout_and_computes_the_same(name, tmp_path):
    import onnx
    import onnxruntime

    model, case = build(name)
    model = model if name != "own-resnet" else nn.Sequential(model, dk.nn.Dropout(0.5, scaling="classic"), nn.Linear(5, 2))
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes", UserWarning)  # torch's LSTM lists its weights anew
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # in torch's exporter
        torch.onnx.export(dk.fold(model, case.inputs), case.inputs, path, dynamo=True, verbose=False)
    graph = onnx.load(path).graph
    assert "Dropout" not in {node.op_type for node in graph.node}
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, {put.name: x.numpy() for put, x in zip(session.get_inputs(), case.inputs, strict=True)})
    for found, expected in zip(outputs, evaluated(model, case.inputs), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


class Elsewhere(nn.Module):
    """Uses the layer behind a dropout a second time."""

    def __init__(self, again):
        super().__init__()
        self.again = again
        self.body = nn.Sequential(dk.nn.Dropout(0.5, scaling="classic"), nn.Linear(8, 8))

    def forward(self, x):
        return self.body(x) + self.again(self.body, x)


@pytest.mark.parametrize("again", [lambda body, x: body[1](x), lambda body, x: F.linear(x, body[1].weight),
                                   lambda body, x: body[1:](x), lambda body, x: body[0](x)])
@pytest.mark.parametrize("given", [True, False])
def test_a_layer_that_is_used_elsewhere_keeps_its_weight(again, given):
    torch.manual_seed(0)
    model, x = Elsewhere(again).eval(), torch.randn(4, 8)
    folded = dk.fold(model, x) if given else dk.fold(model, verify=False)
    torch.testing.assert_close(folded(x), model(x))
    assert torch.equal(folded.body[1].weight, model.body[1].weight)


def test_whether_to_verify_is_a_bool():
    with pytest.raises(dk.InputError, match="verify is True or False"):
        dk.fold(nn.Dropout(0.5), torch.ones(2), verify="no")


def test_a_layer_that_its_sequence_alone_uses_takes_the_factor_in():
    torch.manual_seed(0)
    model, x = Elsewhere(lambda body, x: x).eval(), torch.randn(4, 8)
    assert type(dk.fold(model, x).body[0]) is nn.Identity
    assert type(dk.fold(model.body, verify=False)[0]) is nn.Identity


def test_a_model_that_cannot_be_copied_is_refused():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 8))
    model.lock = threading.Lock()
    for function in (dk.fold, dk.ensemble):
        with pytest.raises(dk.InputError, match="can be copied"):
            function(model, torch.randn(4, 8))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("train", [True, False])
def test_what_was_traced_in_training_is_refused(train):
    x = torch.randn(4, 8)
    part = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).train(train)
    model = nn.Sequential(torch.jit.trace(part, x, check_trace=False), nn.Dropout(0.5))
    if not train:
        assert torch.equal(dk.fold(model, x)(x), model.eval()(x))
        return
    with pytest.raises(dk.InputError, match="a scripted or traced module at '0'"):
        dk.fold(model, x)
