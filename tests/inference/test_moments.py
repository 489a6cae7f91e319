"""One pass: exact where it can be, close to sampling elsewhere, and an error where a rule is missing."""

import copy
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
from moment_nets import Block, close, enumerated, layer, normal, trained

from dropkit.inference.moment_rules import Moments


@pytest.mark.parametrize("drop", [nn.Dropout(0.3), dk.nn.Dropout(0.3), dk.nn.AttentionDropout(0.3)])
def test_a_dropout_and_a_linear_layer_are_exact(drop):
    model, x = nn.Sequential(drop, layer(7, 3)), normal(7)
    found = dk.moment_predict(model, x)
    mean, variance = enumerated(x, 0.3, model[1])
    close(found.mean, mean)
    close(found.variance, variance)
    close(found.variance, model[1].weight.square() @ (x.square() * 0.3 / 0.7))
    close(found.std.square(), found.variance)


def test_classic_scaling_has_the_mean_of_its_evaluation():
    model, x = nn.Sequential(dk.nn.Dropout(0.3, scaling="classic"), layer(7, 3)), normal(2, 7)
    found = dk.moment_predict(model, x)
    close(found.mean, model.eval()(x))
    close(found.variance, (x.square() * 0.21) @ model[1].weight.square().T)


def test_dropped_weights_are_exact():
    model = nn.Sequential(dk.nn.DropConnect(layer(5, 4), 0.4))
    found, x = dk.moment_predict(model, normal(2, 5)), normal(2, 5)
    close(found.variance, (x.square() * 0.4 / 0.6) @ model[0].weight.square().T)
    after = dk.moment_predict(nn.Sequential(nn.Dropout(0.3), dk.nn.DropConnect(layer(1, 1, bias=False), 0.4)), normal(1, 1))
    # Both masks keep with probability 0.7 * 0.6 and scale by its inverse.
    close(after.variance, (layer(1, 1).weight * normal(1, 1)).square() * (1 / 0.42 - 1))


@pytest.mark.parametrize("convolution", [
    nn.Conv1d(2, 3, 3, padding=1, dtype=torch.float64), nn.Conv1d(2, 4, 3, stride=2, groups=2, dtype=torch.float64),
    nn.Conv1d(2, 3, 3, padding=2, dilation=2, bias=False, dtype=torch.float64)])
def test_a_dropout_and_a_convolution_are_exact(convolution):
    x = normal(2, 4)
    found = dk.moment_predict(nn.Sequential(nn.Dropout(0.3), convolution), x[None])
    mean, variance = enumerated(x.flatten(), 0.3, lambda v: convolution(v.view(-1, 2, 4)).flatten(1))
    close(found.mean.flatten(), mean)
    close(found.variance.flatten(), variance)


def test_batch_normalisation_and_averages_are_exact_behind_a_dropout():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(2, dtype=torch.float64)
    norm(normal(50, 2, 4) * 3 + 1)
    nn.init.uniform_(norm.weight)
    model, x = nn.Sequential(nn.Dropout(0.3), norm, nn.AvgPool1d(2), nn.Flatten()), normal(2, 4)
    before = norm.running_mean.clone()
    found = dk.moment_predict(model, x[None])
    norm.eval()
    mean, variance = enumerated(x.flatten(), 0.3, lambda v: model[1:](v.view(-1, 2, 4)))
    close(found.mean[0], mean)
    close(found.variance[0], variance)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize(("module", "function"), [
    (nn.ReLU(), torch.relu), (nn.LeakyReLU(0.1), lambda x: F.leaky_relu(x, 0.1)), (nn.GELU(), F.gelu), (nn.Tanh(), torch.tanh),
    (nn.Sigmoid(), torch.sigmoid), (nn.SiLU(inplace=True), F.silu), (nn.Softplus(), F.softplus), (nn.ELU(), F.elu)])
def test_activations_of_normal_values(module, function):
    """Against an integral on a fine grid; the kink in ELU's slope costs its quadrature two digits."""
    mean, deviation = torch.tensor([-2.0, -0.3, 0.0, 1.0, 3.0], dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    found = apply(module, mean, deviation**2)
    z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    weights = torch.exp(-z.square() / 2)
    y = function(mean[:, None] + deviation * z)
    first = (y * weights).sum(1) / weights.sum()
    second = ((y - first[:, None]).square() * weights).sum(1) / weights.sum()
    tolerance = {"rtol": 2e-3, "atol": 5e-4} if isinstance(module, nn.ELU) else {"rtol": 1e-5, "atol": 1e-5}
    close(found.mean, first, **tolerance)
    close(found.variance, second, **tolerance)


def apply(module, mean, variance):
    from dropkit.inference.moment_rules import RULES
    return RULES[type(module)](module, Moments(mean, variance))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_relu_is_stable_where_nothing_or_little_varies(dtype):
    mean = torch.tensor([1000.0, -1000.0, 5.0, -5.0, 0.0], dtype=dtype)
    for variance in (0.0, 1e-30, 1e-8):
        found = apply(nn.ReLU(), mean, torch.full_like(mean, variance))
        close(found.mean, mean.relu() + torch.tensor([0, 0, 0, 0, (variance / 6.283185307179586) ** 0.5], dtype=dtype))
        close(found.variance[:4], torch.tensor([variance, 0, variance, 0], dtype=dtype), rtol=1e-5, atol=1e-17 * variance)


@pytest.mark.parametrize(("module", "mean_error", "deviation_error"), [
    (nn.Softmax(-1), 0.12, 0.06), (nn.LogSoftmax(-1), 0.01, 0.03),
    (nn.LayerNorm(24, dtype=torch.float64), 0.02, 0.1), (nn.LayerNorm(240, dtype=torch.float64), 0.01, 0.03)])
def test_approximations_are_near_samples(module, mean_error, deviation_error):
    """Of 20,000 normal samples: the error of the mean in deviations, and of the deviation, each in root mean square."""
    n = getattr(module, "normalized_shape", (24,))[0]
    mean, variance = normal(n, seed=3), 0.3 * torch.rand(n, generator=torch.Generator().manual_seed(4)).double()
    found = apply(module.requires_grad_(False), mean, variance)
    samples = module(mean + variance.sqrt() * normal(20_000, n, seed=5))
    deviation = samples.std(0)
    assert float((found.mean - samples.mean(0)).norm() / deviation.norm()) < mean_error
    assert float((found.std / deviation - 1).square().mean().sqrt()) < deviation_error


def test_forwards_are_traced():
    model, x = Block().eval(), normal(3, 6)
    found = dk.moment_predict(model, x)
    hidden = model.one(x)
    close(found.mean, model(x))
    close(found.variance, (hidden.square() * 0.25) @ model.two.weight.square().T / 4)
    assert not any(module.training for module in model.modules())
    inside = dk.moment_predict(nn.Sequential(nn.Identity(), Block()), {"input": x})
    close(inside.variance, found.variance)


def test_terms_that_are_added():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.other = nn.Dropout(0.5), nn.Dropout(0.5)

        def forward(self, x):
            one = self.drop(x)
            return one + one, one + self.other(x), torch.cat((one, x)), 3 * one - 1, dk.functional.dropout(x, 0.5), x

    x = torch.tensor([2.0])
    same, other, joined, scaled, ours, plain = dk.moment_predict(Twice(), x)
    variances = [item.variance.tolist() for item in (same, other, joined, scaled, ours, plain)]
    assert variances == [[16.0], [8.0], [4.0, 0.0], [36.0], [4.0], [0.0]]
    assert [item.mean.tolist() for item in (same, joined, scaled)] == [[4.0], [2.0, 2.0], [5.0]]


def test_what_is_missing_is_named_with_its_place():
    deep = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 4), nn.PReLU()))
    with pytest.raises(dk.InputError, match=r"a PReLU at '1\.1'"):
        dk.moment_predict(deep, torch.ones(2, 4))

    class Sorts(nn.Module):
        def forward(self, x):
            return F.dropout(x, 0.5).sort()

    with pytest.raises(dk.InputError, match="the method sort at 'sub'"):
        dk.moment_predict(Holder(Sorts()), torch.ones(2))
    with pytest.raises(dk.InputError, match="a Attending at '0'"):
        dk.moment_predict(nn.Sequential(Attending()), torch.ones(2, 1, 4))
    with pytest.raises(dk.InputError, match="AlphaDropout"):
        dk.moment_predict(nn.Sequential(nn.AlphaDropout(0.1)), torch.ones(2))


class Holder(nn.Module):
    def __init__(self, sub):
        super().__init__()
        self.sub = sub

    def forward(self, x):
        return self.sub(x)


class Attending(nn.MultiheadAttention):
    def __init__(self):
        super().__init__(4, 1, dropout=0.1)

    def forward(self, x):
        return super().forward(x, x, x)


def test_no_dropout_is_an_error_and_no_certainty():
    with pytest.raises(dk.InputError, match="rate above 0"):
        dk.moment_predict(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0)), torch.ones(1, 3))
    with pytest.raises(dk.InputError, match=r"torch\.fx"):
        dk.moment_predict(Branching(), torch.ones(3))


class Branching(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5) if x.sum() > 0 else x


def test_the_model_stays_as_it_is_also_after_an_error():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3), nn.PReLU()).train()
    model[1].eval()
    with pytest.raises(dk.InputError):
        dk.moment_predict(model, torch.ones(1, 3))
    assert [module.training for module in model.modules()] == [True, True, False, True]


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.out, self.last, self.seen = nn.Dropout(0.5), nn.Linear(3, 3), None, []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.last = self.drop(x)
        return self.out(self.last)


@pytest.mark.parametrize("linearised", [False, True])
@pytest.mark.parametrize("refused", [False, True])
def test_what_a_forward_writes_into_its_module_stays_out_of_the_model(linearised, refused):
    net = Remembers()
    model, x = nn.Sequential(net, *[nn.PReLU()] * refused).train(), torch.randn(4, 3)
    model(x)
    last = net.last
    with pytest.raises(dk.InputError) if refused else nullcontext():
        dk.moment_predict(model, x, linearised=linearised)
    assert net.last is last
    assert (float(net.calls), len(net.seen), model.training) == (1, 1, True)
    pickle.dumps(net)


def test_the_inputs_stay_as_they_are():
    x = torch.randn(4, 3)
    before = x.clone()
    dk.moment_predict(nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(3, 3)), x)
    assert torch.equal(x, before)


class InHalf(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.rnn, self.out = nn.Dropout(0.5), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.drop(300 * self.rnn(x.half()[:, None].to(torch.float16))[0].flatten(1)).half())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("way", [{}, {"linearised": True}])
def test_half_types_are_computed_in_float32(kind, way):
    torch.manual_seed(0)
    for model, x in ((nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 3)), 300 * torch.ones(2, 8)), (InHalf(), torch.ones(2, 8))):
        model, x = model.to(kind), x.to(kind)
        found, wide = dk.moment_predict(model, x, **way), dk.moment_predict(copy.deepcopy(model).float(), x.float(), **way)
        torch.testing.assert_close((found.mean, found.variance), (wide.mean, wide.variance))
        assert all(p.dtype == kind for p in model.parameters())


def test_autocast_does_not_narrow_moments():
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)), torch.randn(4, 3)
    usual = dk.moment_predict(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dk.moment_predict(model, x).variance, usual.variance)


def test_what_is_detached_or_transposed_varies_as_before():
    class Moves(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.out = nn.Dropout(0.3), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.drop(x).detach().T.mT)

    model, x = Moves(), torch.randn(4, 3)
    usual = dk.moment_predict(nn.Sequential(model.drop, model.out), x).variance
    for linearised in (False, True):
        torch.testing.assert_close(dk.moment_predict(model, x, linearised=linearised).variance, usual)
        assert dk.moment_predict(model, x[:0], linearised=linearised).variance.shape == (0, 2)


@pytest.mark.parametrize("inputs", [torch.ones(4, 9), torch.ones(4, 8).double(), [torch.ones(4, 8)] * 2, None])
def test_inputs_that_the_model_rejects_are_told(inputs):
    with pytest.raises(dk.InputError, match="runs on the inputs that it is given"):
        dk.moment_predict(nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5), nn.Linear(4, 3)), inputs)


@pytest.mark.parametrize("option", ["linearised", "covariance"])
def test_options_that_are_on_or_off_are_bools(option):
    with pytest.raises(dk.InputError, match=f"{option} is True or False"):
        dk.moment_predict(nn.Dropout(0.5), torch.ones(2, 2), **{option: "no"})


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_dropout_and_disabled_models_are_refused():
    part, x = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)), torch.ones(2, 3)
    with pytest.raises(dk.InputError, match="written in Python"):
        dk.moment_predict(nn.Sequential(torch.jit.script(part), nn.Dropout(0.2)), x)
    with dk.disabled(part), pytest.raises(dk.InputError, match="moment_predict inside"):
        dk.moment_predict(part, x)


@pytest.mark.slow
@pytest.mark.parametrize(("rates", "covariance"), [
    ((0.0, 0.5), False), ((0.0, 0.5), True), ((0.2, 0.5), True), ((0.1, 0.1, 0.1), True), ((0.0, 0.5, 0.5), True),
    ((0.2, 0.5, 0.5), True)])
def test_a_trained_network_against_a_hundred_thousand_samples(rates, covariance):
    """The mean within 2 percent and variances within 10, in root mean square over examples and outputs."""
    model, x = trained(*rates)
    found, passes = dk.moment_predict(model, x, covariance=covariance), 100_000
    with torch.no_grad(), dk.keyed(0):
        samples = torch.cat([model.train()(x.expand(1000, -1, -1)) for _ in range(passes // 1000)]).double()
    mean, variance = samples.mean(0), samples.var(0)
    assert float((found.mean - mean).square().sum().sqrt() / mean.square().sum().sqrt()) < 0.02
    assert float((found.variance / variance - 1).square().mean().sqrt()) < 0.10
    if rates == (0.0, 0.5):  # exact: four standard errors of a sample variance, whose kurtosis is below 6 here
        assert float((found.variance / variance - 1).abs().max()) < 4 * (5 / passes) ** 0.5


def test_covariances_are_exact_up_to_the_first_activation():
    model, x = nn.Sequential(nn.Tanh(), dk.nn.Dropout(0.3), layer(5, 4), nn.Identity(), layer(4, 3, seed=2)), normal(5)
    found = dk.moment_predict(model, x, covariance=True)
    mean, variance = enumerated(x.tanh(), 0.3, model[2:])
    close(found.mean, mean)
    close(found.variance, variance)
    weight = model[4].weight @ model[2].weight
    close(found.covariance, weight @ torch.diag(x.tanh().square() * 0.3 / 0.7) @ weight.T)
    classic = dk.moment_predict(nn.Sequential(nn.Dropout(0.2), layer(5, 4), dk.nn.Dropout(0.3, scaling="classic")), x,
                                covariance=True).covariance
    plain = dk.moment_predict(nn.Sequential(nn.Dropout(0.2), layer(5, 4)), x, covariance=True).covariance
    close(classic[0, 1], plain[0, 1] * 0.49)


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_covariances_of_relu(slope):
    """Against an integral over a grid of two correlated normal values: what the expansion leaves out is of order r^5."""
    from dropkit.inference.moment_joint import joint_relu

    mean, deviation, r = torch.tensor([0.4, -0.7]).double(), torch.tensor([1.3, 0.6]).double(), 0.6
    covariance = torch.tensor([[1.0, r], [r, 1.0]]).double() * deviation[:, None] * deviation
    found = joint_relu(Moments(mean, deviation**2, covariance), slope)
    z = torch.linspace(-7, 7, 1401, dtype=torch.float64)
    one, two = z[:, None].expand(-1, len(z)), r * z[:, None] + (1 - r * r) ** 0.5 * z
    weights = torch.exp(-(z[:, None].square() + z.square()) / 2)
    f, g = F.leaky_relu(mean[0] + deviation[0] * one, slope), F.leaky_relu(mean[1] + deviation[1] * two, slope)
    weights = weights / weights.sum()
    expected = (f * g * weights).sum() - (f * weights).sum() * (g * weights).sum()
    close(found.covariance[0, 1], expected, rtol=0.01, atol=0.0)
    close(found.covariance.diagonal(), found.variance)


def test_covariances_are_followed_where_that_is_known():
    for model, text in ((nn.Sequential(nn.Dropout(0.5), nn.GELU()), "a GELU at '1'"), (Block(), "a Block"),
                        (nn.Sequential(dk.nn.Dropout(0.5, share_dims=(1,))), "single elements")):
        with pytest.raises(dk.InputError, match=text):
            dk.moment_predict(model, torch.ones(2, 6), covariance=True)
    with pytest.raises(dk.InputError, match="one tensor"):
        dk.moment_predict(nn.Dropout(0.5), (torch.ones(1), 2), covariance=True)
    with pytest.raises(dk.InputError, match="rate above 0"):
        dk.moment_predict(nn.Sequential(nn.Linear(2, 2)), torch.ones(2), covariance=True)


def test_blocks_change_nothing():
    x = Moments(normal(3, 7, 4000), normal(3, 7, 4000, seed=1).square())
    from dropkit.inference.moment_rules import relu_moments
    found, whole = apply(nn.ReLU(), x.mean.mT, x.variance.mT), relu_moments(x)
    assert torch.equal(found.mean, whole.mean.mT)
    assert torch.equal(found.variance, whole.variance.mT)
