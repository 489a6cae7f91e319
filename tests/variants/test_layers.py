import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import dropkit as dk
from dropkit.variants.layers import LINEAR, AdoptedLayer, Geometry, RatedLayer, adopt, apply_layer, check_layer, pad

LAYERS = [
    (lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4, bias=False), (2, 3, 6)), (lambda: nn.Linear(6, 4), (6,)),
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2), (5, 4, 9)),
    (lambda: nn.Conv1d(4, 6, 4, padding="same", padding_mode="replicate"), (4, 9)),
    (lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2, padding_mode="reflect"), (2, 3, 7, 8)),
    (lambda: nn.Conv2d(3, 4, (2, 3), padding="valid", bias=False), (3, 7, 8)),
    (lambda: nn.Conv2d(3, 4, (1, 4), padding="same"), (2, 3, 7, 8)),
    (lambda: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="reflect", stride=(1, 2)), (2, 3, 7, 8)),
    (lambda: nn.Conv3d(2, 4, (2, 3, 4), padding="same", padding_mode="circular"), (2, 2, 5, 6, 7)),
    (lambda: nn.Conv3d(2, 4, 2, padding=1, groups=2), (2, 3, 4, 3)),
]
# torch's own warning, which its layer gives too
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
layers = pytest.mark.parametrize(("make", "shape"), LAYERS)


class Adopting(RatedLayer):
    def forward(self, x):
        return apply_layer(x, self.weight, self.bias, self.geometry)


@layers
def test_an_adopted_layer_computes_what_the_layer_does(make, shape):
    layer, x = make(), torch.randn(shape)
    module, expected = Adopting(layer, 0.3), layer(x)
    assert torch.equal(module(x), expected)
    assert module.weight is layer.weight
    assert module.bias is layer.bias
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), expected)
        assert other.geometry == module.geometry == check_layer(layer)


@layers
def test_padding_beforehand_is_padding(make, shape):
    layer, x = make(), torch.randn(shape)
    geometry = check_layer(layer)
    if geometry.kind != "linear":
        bare = Geometry(geometry.kind, geometry.stride, (0,) * geometry.spatial, geometry.dilation, geometry.groups)
        padded = pad(x, tuple(layer.weight.shape[2:]), geometry)
        assert torch.allclose(apply_layer(padded, layer.weight, layer.bias, bare), layer(x), rtol=1e-5, atol=1e-6)


@layers
def test_state_and_sizes_are_the_layers(make, shape):
    layer = make()
    module, other = Adopting(layer, 0.3), make()
    assert list(module.state_dict()) == list(layer.state_dict())
    module.load_state_dict(other.state_dict())
    assert torch.equal(layer.weight, other.weight)
    assert all(getattr(module, name) == getattr(layer, name) for name in layer.__constants__)
    assert repr(module) == repr(layer).replace(type(layer).__name__, "Adopting")[:-1] + ", p=0.3)"


def test_the_mode_is_taken_over():
    assert not Adopting(nn.Linear(2, 2).eval()).training


def test_a_module_without_a_rate_adopts_too():
    module = AdoptedLayer(nn.Linear(2, 3))
    assert repr(module) == "AdoptedLayer(in_features=2, out_features=3, bias=True)"
    plain = nn.Module()
    adopt(plain, nn.Linear(2, 3, bias=False))
    assert plain.bias is None
    assert plain.geometry is LINEAR


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect")])
def test_compiled(make):
    torch.compiler.reset()
    module = Adopting(make())
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for batch in (2, 3, 5):
        x = torch.randn(batch, 6) if module.geometry is LINEAR else torch.randn(batch, 2, 5, 6)
        assert torch.allclose(compiled(x), module(x), rtol=1e-6, atol=1e-6)


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class OwnConvolution(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight, bias) + 1


def hooked(register):
    layer = nn.Linear(2, 2)
    getattr(layer, register)(lambda *_: None)
    return layer


@pytest.mark.parametrize(("make", "text"), [
    (lambda: nn.LayerNorm(3), "nn.Linear, nn.Conv1d, nn.Conv2d or nn.Conv3d with torch's own forward; got LayerNorm"),
    (lambda: nn.ConvTranspose1d(2, 2, 1), "got ConvTranspose1d"), (lambda: "layer", "got str"), (lambda: Own(2, 2), "got Own"),
    (lambda: OwnConvolution(2, 2, 1), "got OwnConvolution"), (lambda: Adopting(nn.Linear(2, 2)), "got Adopting"),
    (lambda: nn.LazyLinear(3), "has its parameters already; got an uninitialised LazyLinear"),
    (lambda: nn.LazyConv2d(3, 1), "uninitialised LazyConv2d"),
    (lambda: weight_norm(nn.Linear(2, 2)), "holds its weight as a parameter; got ParametrizedLinear"),
    (lambda: hooked("register_forward_hook"), "has no hooks, which would be lost; got Linear with hooks"),
    (lambda: hooked("register_forward_pre_hook"), "has no hooks"),
    (lambda: hooked("register_full_backward_hook"), "has no hooks"),
    (lambda: hooked("register_full_backward_pre_hook"), "has no hooks"),
])
def test_what_cannot_be_adopted_is_refused(make, text):
    with pytest.raises(dk.InputError, match=text):
        Adopting(make())


def test_a_lazy_layer_that_has_seen_data_is_adopted():
    layer, x = nn.LazyLinear(3), torch.randn(2, 5)
    expected = layer(x)
    assert torch.equal(Adopting(layer)(x), expected)


def test_rates_are_checked():
    with pytest.raises(dk.InputError, match="probability of dropping"):
        Adopting(nn.Linear(2, 2), 1.5)
