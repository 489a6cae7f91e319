import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.variants.draw import draw_noise
from dropkit.variants.layers import check_layer
from dropkit.variants.regularization import regularization_loss
from dropkit.variants.variational import VariationalDropout, log_alpha, variational_dropout, variational_kl

LAYERS = [
    (lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4, bias=False), (6,)), (lambda: nn.Linear(6, 4), (2, 3, 6)),
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2), (5, 4, 9)),
    (lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2, padding_mode="reflect"), (2, 3, 7, 8)),
    (lambda: nn.Conv2d(3, 4, (1, 3), padding="valid", bias=False), (3, 7, 8)),
    (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 2, 3, 4, 3)),
]
layers = pytest.mark.parametrize(("make", "shape"), LAYERS)


def sampled(make, shape):
    """A layer with different variances, its data, and mean and variance of its output by torch's own layers."""
    torch.manual_seed(0)
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    other = copy.deepcopy(layer)
    mean = layer(x)
    module = VariationalDropout(layer)
    with torch.no_grad():
        module.log_sigma2.copy_(torch.randn_like(module.weight) - 2)
        other.weight.copy_(module.log_sigma2.exp())
        if other.bias is not None:
            other.bias.zero_()
    return module, x, mean, other(x**2)


@layers
def test_outputs_have_the_variance_of_their_inputs(make, shape):
    module, x, mean, variance = sampled(make, shape)
    with dk.keyed(3):
        y = module(x)
    with dk.keyed(3):
        noise = draw_noise(mean.shape, "normal").double()
    assert torch.allclose(y, mean + variance.sqrt() * noise, rtol=1e-12, atol=1e-12)
    assert noise.unique().numel() == noise.numel()  # one noise an output


def test_moments_follow_the_theory_and_the_bias_is_no_noise():
    # n standard normals: |mean| exceeds sqrt(2 t / n) and their squares' sum leaves n by 2 sqrt(n t) + 2 t with probability
    # at most 2 e^-t each (Chernoff; Laurent and Massart: "Adaptive estimation of a quadratic functional", 2000).
    t, count = math.log(4 / 1e-6), 20000
    module, x, _, variance = sampled(lambda: nn.Linear(6, 4), (count, 6))
    with torch.no_grad():
        module.bias.fill_(100.0)
    with torch.no_grad():
        plain = F.linear(x, module.weight, module.bias)
        z = ((module(x) - plain) / variance.sqrt()).flatten()
    n = z.numel()
    assert abs(float(z.mean())) < math.sqrt(2 * t / n)
    assert abs(float((z**2).sum()) - n) < 2 * math.sqrt(n * t) + 2 * t
    rows = z.view(count, 4)
    for other in (rows[:, [1, 2, 3, 0]], rows.roll(1, 0)):  # products of independent normals; within outputs and examples
        assert abs(float((rows * other).mean())) < 6 / math.sqrt(n)


def test_sampling_outputs_is_sampling_weights():
    # Of m sampled outputs and m outputs of sampled weights, the variances differ by chance in relative terms by at most the
    # sum of two Laurent-Massart bounds.
    torch.manual_seed(0)
    t, m = math.log(4 / 1e-6), 40000
    x, weight, log_sigma2 = torch.randn(1, 6), torch.randn(1, 6), torch.randn(1, 6)
    generator = torch.Generator().manual_seed(1)
    ours = variational_dropout(x.expand(m, 6), weight, log_sigma2, generator=generator)
    weights = weight + (log_sigma2 / 2).exp() * draw_noise((m, 6), "normal", generator)
    theirs = (weights * x).sum(1)
    bound = 2 * (2 * math.sqrt(t / m) + 2 * t / m)
    assert abs(float(ours.var() / theirs.var()) - 1) < bound / (1 - bound / 2)


@layers
def test_evaluation_is_the_layer_without_its_noisy_weights(make, shape):
    module, x, _, _ = sampled(make, shape)
    module.eval()
    with torch.no_grad():
        module.log_sigma2.add_(2.0)
    noisy = module.log_sigma2 - (module.weight**2).log() > 3.0
    assert 0 < int(noisy.sum()) < noisy.numel()
    assert module.sparsity == float(noisy.double().mean())
    layer, state = make().double(), torch.get_rng_state()
    pruned = {**module.state_dict(), "weight": module.weight.masked_fill(noisy, 0.0)}
    del pruned["log_sigma2"]
    layer.load_state_dict(pruned)  # the keys are the layer's
    y = module(x)
    assert torch.equal(y, layer(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.prune_() == module.sparsity == float(noisy.double().mean())
    assert torch.equal(module.weight == 0, noisy)
    assert torch.equal(module(x), y)


def test_the_threshold_decides():
    weight, log_sigma2 = torch.ones(1, 3), torch.tensor([[0.9, 1.0, 1.1]])
    x = torch.tensor([[1.0, 10.0, 100.0]])
    for threshold, expected in ((1.0, 11.0), (math.inf, 111.0), (-math.inf, 0.0)):
        assert variational_dropout(x, weight, log_sigma2, training=False, threshold=threshold).item() == expected


def true_kl(noise):
    """KL(N(w, alpha w^2) || 1 / |w|) at log alpha = noise, with the constant that makes it 0 for infinite alpha.

    The midpoint rule with a step of 2.4e-5 misjudges the logarithm's pole by less than 3e-4.
    """
    step = 24 / 10**6
    e = -12 + step * (torch.arange(10**6, dtype=torch.float64) + 0.5)
    density = torch.exp(-e**2 / 2) / math.sqrt(2 * math.pi)
    expected_log_normal = -(0.5772156649015329 + math.log(2)) / 2  # E log|e|
    return -noise / 2 + float(((1 + math.exp(noise / 2) * e).abs().log() * density).sum()) * step - expected_log_normal


def test_the_divergence_is_near_the_integral():
    for noise in (-12.0, -6.0, -4.0, -3.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 6.0, 10.0):
        approximate = variational_kl(torch.ones(1, dtype=torch.float64), torch.tensor([noise], dtype=torch.float64))
        assert abs(float(approximate) - true_kl(noise)) < 0.01, noise


def test_the_divergence_is_the_papers_formula_and_falls():
    k1, k2, k3 = 0.63576, 1.87320, 1.48695
    noise = torch.linspace(-12, 12, 200, dtype=torch.float64)
    weight = torch.full((1,), -1e4, dtype=torch.float64)
    each = torch.stack([variational_kl(weight, one + weight.square().log()) for one in noise])
    negative = k1 * torch.sigmoid(k2 + k3 * noise) - 0.5 * torch.log1p(1 / noise.exp()) - k1
    assert torch.allclose(each, -negative, rtol=1e-9, atol=1e-12)
    assert bool((each.diff() < 0).all())
    assert bool((each > 0).all())
    assert each[-1] < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_divergences_have_finite_gradients_everywhere(dtype):
    weight = torch.tensor([0.0, 1e-7, -1.0, 3e4]).to(dtype).requires_grad_()
    for start in (-60.0, -10.0, 0.0, 30.0):
        log_sigma2 = torch.full_like(weight, start).detach().requires_grad_()
        kl = variational_kl(weight, log_sigma2)
        assert kl.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
        for grad in (kl, *torch.autograd.grad(kl, (weight, log_sigma2))):
            assert bool(grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_gradients_are_finite_where_the_variance_is_zero(dtype):
    module = VariationalDropout(nn.Linear(3, 2)).to(dtype)
    x = torch.zeros(4, 3, dtype=dtype, requires_grad=True)
    y = module(x)
    assert torch.allclose(y, module.bias.expand_as(y), atol=1e-7, rtol=0)
    for grad in torch.autograd.grad(y.sum(), (x, *module.parameters())):
        assert bool(grad.isfinite().all())
    with torch.no_grad():
        module.log_sigma2.fill_(-math.inf)  # no noise at all
    y = module(torch.ones_like(x).requires_grad_())
    for grad in torch.autograd.grad(y.sum(), tuple(module.parameters())):
        assert bool(grad.isfinite().all())


def test_half_precision_does_not_overflow_in_the_squares():
    module = VariationalDropout(nn.Linear(3, 2), initial_log_sigma2=-4.0)
    x = torch.full((1000, 3), 300.0)  # 300^2 is more than float16 holds
    spread = math.sqrt(3 * 300.0**2 * math.exp(-4.0))
    mean = F.linear(x, module.weight, module.bias).detach()
    half, single = (copy.deepcopy(module).half(), x.half(), False), (module, x, True)
    for layer, data, autocast in (half, single):
        with dk.keyed(1), torch.autocast("cpu", torch.float16, enabled=autocast):
            y = layer(data).detach()
        with dk.keyed(1):
            noise = draw_noise(y.shape, "normal")
        assert y.dtype is torch.float16
        assert float((y.float() - mean - spread * noise).abs().max()) < 1.0  # values up to 700, twice rounded by up to 1/4


def test_rates_can_be_read():
    module = VariationalDropout(nn.Linear(2, 1))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[2.0, -1.0]]))
        module.log_sigma2.copy_(torch.tensor([[math.log(4.0), math.log(3.0)]]))  # alpha is 1 and 3
    assert torch.allclose(module.rates, torch.tensor([[0.5, 0.75]]))
    assert not module.rates.requires_grad
    assert module.p == pytest.approx(0.625, abs=1e-6)
    assert torch.allclose(log_alpha(module.weight, module.log_sigma2), torch.tensor([[0.0, math.log(3.0)]]), atol=1e-6)


def test_the_layer_is_adopted():
    layer = nn.Conv1d(2, 4, 3)
    module = VariationalDropout(layer, initial_log_sigma2=-5.0, threshold=2.0)
    assert module.weight is layer.weight
    assert set(module.state_dict()) == {*layer.state_dict(), "log_sigma2"}
    assert torch.equal(module.log_sigma2, torch.full_like(layer.weight, -5.0))
    assert repr(module) == "VariationalDropout(2, 4, kernel_size=(3,), stride=(1,), threshold=2.0)"
    assert repr(VariationalDropout(nn.Linear(3, 4))) == "VariationalDropout(in_features=3, out_features=4, bias=True)"
    assert pickle.loads(pickle.dumps(module)).threshold == 2.0


def test_errors():
    x, weight = torch.ones(2, 3), torch.ones(4, 3)
    with pytest.raises(dk.InputError, match="log_sigma2 has the shape of the weight; got \\(3,\\) for \\(4, 3\\)"):
        variational_dropout(x, weight, torch.ones(3))
    with pytest.raises(dk.InputError, match="threshold is a number"):
        variational_dropout(x, weight, weight, threshold=math.nan)
    with pytest.raises(dk.InputError, match="floating-point data"):
        variational_dropout(x.long(), weight, weight)
    with pytest.raises(dk.InputError, match="real data"):
        variational_dropout(x.cfloat(), weight.cfloat(), weight)
    for name, bad in (("threshold", None), ("initial_log_sigma2", "x"), ("initial_log_sigma2", -math.inf), ("threshold", True)):
        with pytest.raises(dk.InputError, match=f"{name} is"):
            VariationalDropout(nn.Linear(3, 4), **{name: bad})
    with pytest.raises(dk.InputError, match="a layer to adopt"):
        VariationalDropout(nn.ReLU())
    with pytest.raises(AttributeError):
        VariationalDropout(nn.Linear(3, 4)).p = 0.5  # a mean of what was learned


def test_the_geometry_is_the_layers():
    layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 2, 5, 5)
    y = variational_dropout(x, layer.weight, torch.full_like(layer.weight, -40.0), layer.bias, geometry=check_layer(layer))
    assert torch.allclose(y, layer(x), atol=1e-5)


@pytest.mark.slow
def test_irrelevant_inputs_are_pruned():
    # The noise of the targets is made orthogonal to the inputs: least squares gives irrelevant weights of exactly 0, and no
    # accident of the sample makes one look relevant.
    torch.manual_seed(0)
    count, spread, steps = 200, 0.5, 2000
    x = torch.linalg.qr(torch.randn(count, 20))[0] * math.sqrt(count)
    noise = spread * torch.randn(count, 1)
    relevant = torch.zeros(20, 1)
    relevant[:3, 0] = torch.tensor([2.0, -1.0, 0.5])
    target = x @ relevant + noise - x @ (x.T @ noise) / count
    layer = VariationalDropout(nn.Linear(20, 1))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        error = F.mse_loss(layer(x), target) / (2 * spread**2)
        loss = error + min(1.0, 2 * step / steps) * regularization_loss(layer, data_size=count)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (log_alpha(layer.weight, layer.log_sigma2) <= 3.0)[0].tolist() == [True] * 3 + [False] * 17
    assert layer.sparsity == layer.prune_() == 17 / 20
    assert float((layer.weight.detach() - relevant.T).abs().max()) < 5 * spread / math.sqrt(count)
