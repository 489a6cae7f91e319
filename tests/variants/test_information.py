import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import LogNormal, Normal, kl_divergence

import dropkit as dk
from dropkit.variants.draw import draw_noise
from dropkit.variants.information import InformationDropout, information_dropout, log_normal_kl, log_uniform_kl

LAYERS = [
    (lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4, bias=False), (6,)), (lambda: nn.Linear(6, 4), (2, 3, 6)),
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2), (5, 4, 9)),
    (lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2), (3, 7, 8)),
    (lambda: nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 3)),
]
layers = pytest.mark.parametrize(("make", "shape"), LAYERS)
activations = pytest.mark.parametrize("activation", ["relu", "softplus"])


def informed(make, activation="relu", max_alpha=0.7):
    """A module whose strengths depend on the input."""
    torch.manual_seed(0)
    module = InformationDropout(make().double(), activation=activation, max_alpha=max_alpha)
    with torch.no_grad():
        for parameter in (module.alpha_weight, module.alpha_bias):
            parameter.copy_(torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("shape", [(), (1,), (7,), (50, 1), (50, 7)])
def test_the_factor_is_log_normal(shape):
    torch.manual_seed(0)
    x, alpha = torch.randn(50, 7, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    with dk.keyed(1):
        y = information_dropout(x, alpha)
    with dk.keyed(1):
        noise = draw_noise(x.shape, "normal").double()
    assert torch.allclose(y, x * (alpha * noise).exp(), rtol=1e-12, atol=0)
    assert noise.unique().numel() == noise.numel()


def test_moments_follow_the_theory():
    # As in the tests of variational dropout: n standard normals, with a false alarm in 10^6.
    t, n = math.log(4 / 1e-6), 100000
    torch.manual_seed(0)
    z = information_dropout(torch.full((n,), 3.0), 0.7).div(3).log() / 0.7
    assert abs(float(z.mean())) < math.sqrt(2 * t / n)
    assert abs(float((z**2).sum()) - n) < 2 * math.sqrt(n * t) + 2 * t


def test_no_strength_and_no_training_change_nothing():
    x = torch.randn(5)
    assert torch.equal(information_dropout(x, 0.0), x)
    state = torch.get_rng_state()
    assert information_dropout(x, 0.7, training=False) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_the_log_normal_divergence_is_that_of_the_distributions():
    torch.manual_seed(0)
    x, alpha = torch.rand(100, dtype=torch.float64) + 0.01, torch.rand(100, dtype=torch.float64) + 0.01
    for mean, log_sigma in ((0.0, 0.0), (-1.0, 0.7), (torch.tensor(2.0), torch.tensor(-0.5))):
        prior = LogNormal(torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(log_sigma, dtype=torch.float64).exp())
        assert torch.allclose(log_normal_kl(x, alpha, mean, log_sigma), kl_divergence(LogNormal(x.log(), alpha), prior))


def test_the_log_uniform_divergence_is_lost_entropy():
    # The logarithm of the noise is normal and the prior's is flat: two strengths differ by the difference of entropies.
    alpha = torch.linspace(0.01, 0.7, 50, dtype=torch.float64)
    lost = Normal(0.0, 0.7).entropy() - Normal(torch.zeros(50, dtype=torch.float64), alpha).entropy()
    assert torch.allclose(log_uniform_kl(alpha, 0.7), lost, atol=1e-6)
    assert abs(float(log_uniform_kl(alpha, 0.7)[-1])) < 1e-12


@layers
@activations
def test_the_module_is_the_layer_its_activation_and_noise(make, shape, activation):
    module, x = informed(make, activation), torch.randn(shape, dtype=torch.float64)
    layer, other = make().double(), make().double()
    layer.load_state_dict({name: value for name, value in module.state_dict().items() if name in layer.state_dict()})
    with torch.no_grad():
        other.weight.copy_(module.alpha_weight)
        other.bias = None
    shift = module.alpha_bias.view(-1, *[1] * module.geometry.spatial)
    y = getattr(F, activation)(layer(x))
    alpha = 0.7 * (0.001 + 0.999 * torch.sigmoid(other(x) + shift))
    assert torch.allclose(module.alpha(x), alpha)
    with dk.keyed(1):
        out = module(x)
    with dk.keyed(1):
        assert torch.allclose(out, information_dropout(y, alpha))
    each = -(alpha / 0.7).log() if activation == "relu" else kl_divergence(LogNormal(y.log(), alpha), LogNormal(
        torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)))
    examples = shape[0] if len(shape) > 1 + module.geometry.spatial else 1
    assert torch.allclose(module.regularization(), each.sum() / examples)
    assert module.regularization().shape == ()
    state = torch.get_rng_state()
    assert torch.equal(module.eval()(x), y)
    assert torch.equal(torch.get_rng_state(), state)


def test_strengths_lie_between_a_thousandth_of_the_largest_and_the_largest():
    module = informed(lambda: nn.Linear(3, 4), max_alpha=0.5)
    with torch.no_grad():
        module.alpha_weight.mul_(1e6)
    alpha = module.alpha(torch.randn(1000, 3, dtype=torch.float64))
    assert float(alpha.detach().min()) == pytest.approx(0.5e-3)
    assert float(alpha.detach().max()) == pytest.approx(0.5)
    fresh = InformationDropout(nn.Linear(3, 4))
    assert torch.allclose(fresh.alpha(torch.randn(2, 3)), torch.tensor(0.7 * 0.5005))


@activations
def test_the_divergence_is_of_the_last_pass_in_training(activation):
    module, x, z = informed(lambda: nn.Linear(6, 4), activation), *torch.randn(2, 5, 6, dtype=torch.float64)
    with pytest.raises(dk.InputError, match="after a forward pass in training; got no such pass"):
        module.regularization()
    module(x)
    first = module.regularization()
    module(z)
    second = module.regularization()
    assert not torch.equal(first, second)
    module.eval()(x)
    assert module.regularization() is second
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with pytest.raises(dk.InputError, match="after a forward pass"):
            copied.regularization()
        copied.train()(x)
        assert torch.equal(copied.regularization(), first)
    assert module.regularization() is second
    assert set(module.state_dict()) == {"weight", "bias", "alpha_weight", "alpha_bias"} | (
        {"prior_mean", "prior_log_sigma"} if activation == "softplus" else set())


@activations
def test_the_divergence_has_the_gradients_of_its_formula(activation):
    module, x = informed(lambda: nn.Linear(3, 2), activation), torch.randn(4, 3, dtype=torch.float64)
    whole = Divergence(module)
    names = [name for name, _ in whole.named_parameters() if activation == "softplus" or "alpha" in name]

    def divergence(*values):
        return torch.func.functional_call(whole, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(divergence, tuple(whole.get_parameter(name).detach().requires_grad_() for name in names))


class Divergence(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        self.module(x)
        return self.module.regularization()


def test_compiled_code_has_the_same_divergence():
    torch.compiler.reset()
    module, x = informed(lambda: nn.Linear(6, 4)), torch.randn(5, 6, dtype=torch.float64)
    compiled, gradients = torch.compile(module, backend="aot_eager", fullgraph=True), []
    for run in (module, compiled, compiled):
        module.zero_grad()
        with dk.keyed(1):
            loss = run(x).sum() + dk.regularization_loss(run)
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in module.parameters()]))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-10)
    assert torch.allclose(gradients[0], gradients[2], rtol=1e-10)


def test_checkpoints_keep_the_gradient_of_the_divergence():
    module, x = informed(lambda: nn.Linear(6, 4)), torch.randn(5, 6, dtype=torch.float64)
    gradients = []
    for wrapped in (False, True):
        torch.manual_seed(0)
        y = torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False) if wrapped else module(x)
        loss = y.sum() + module.regularization()
        gradients.append(torch.autograd.grad(loss, (module.weight, module.alpha_weight)))
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two)


@activations
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extreme_inputs_stay_finite(activation, dtype):
    module = InformationDropout(nn.Linear(3, 4), activation=activation)
    with torch.no_grad():
        module.alpha_bias.copy_(torch.tensor([-200.0, 200.0, 0.0, 0.0]))
        module.bias.copy_(torch.tensor([-200.0, -50.0, 0.0, 200.0]))
    module = module.to(dtype)
    y = module(torch.zeros(5, 3, dtype=dtype))
    loss = module.regularization()
    assert y.dtype is dtype
    assert loss.dtype is torch.float32
    for value in (y, loss, *torch.autograd.grad(y.float().sum() + loss, tuple(module.parameters()))):
        assert bool(value.isfinite().all())
    module(torch.zeros(0, 3, dtype=dtype))
    assert module.regularization().item() == 0.0


def test_the_layer_is_adopted():
    layer = nn.Linear(3, 4)
    module = InformationDropout(layer)
    assert module.weight is layer.weight
    assert repr(module) == "InformationDropout(in_features=3, out_features=4, bias=True)"
    assert repr(InformationDropout(layer, max_alpha=1.5, activation="softplus")) == (
        "InformationDropout(in_features=3, out_features=4, bias=True, max_alpha=1.5, activation='softplus')")


@pytest.mark.parametrize(("kwargs", "text"), [({"max_alpha": 0.0}, "max_alpha is a finite number above 0"),
                                              ({"max_alpha": math.inf}, "max_alpha is"), ({"max_alpha": True}, "max_alpha is"),
                                              ({"max_alpha": "x"}, "max_alpha is"), ({"activation": "tanh"}, "activation is")])
def test_wrong_settings_are_refused(kwargs, text):
    with pytest.raises(dk.InputError, match=text):
        InformationDropout(nn.Linear(2, 2), **kwargs)


def test_wrong_arguments_are_refused():
    x = torch.ones(2, 3)
    for shape in ((2,), (3, 1), (1, 2, 3)):
        with pytest.raises(dk.InputError, match=r"strengths broadcast to the shape of x; got \("):
            information_dropout(x, torch.ones(shape))
    for bad in (-0.1, math.nan, "x", None):
        with pytest.raises(dk.InputError, match="alpha is a finite number of at least 0"):
            information_dropout(x, bad, training=False)
    with pytest.raises(dk.InputError, match="floating-point data"):
        information_dropout(x.long(), 0.5)
    for training in (True, False):
        with pytest.raises(dk.InputError, match="floating-point data"):
            InformationDropout(nn.Linear(3, 2)).train(training)(x.long())
    with pytest.raises(dk.InputError, match="max_alpha is"):
        log_uniform_kl(x, 0.0)
    with pytest.raises(dk.InputError, match="a layer to adopt"):
        InformationDropout(nn.ReLU())


def test_noise_is_learned_where_it_does_no_harm():
    torch.manual_seed(0)
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
    module = InformationDropout(layer.requires_grad_(False))
    x = torch.rand(256, 2) + 0.5
    optimizer = torch.optim.Adam([module.alpha_weight, module.alpha_bias], lr=0.05)
    for _ in range(400):
        error = (module(x)[:, 0] - x[:, 0]).square().mean() / 0.02  # only the first unit is needed
        optimizer.zero_grad()
        (error + dk.regularization_loss(module)).backward()
        optimizer.step()
    needed, idle = module.alpha(x).mean(0).tolist()
    assert needed < 0.2  # x alpha of about 0.1 balances the divergence
    assert idle > 0.68
