import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.variants.concrete import ConcreteDropout, _soft_mask, concrete_dropout
from dropkit.variants.draw import draw_noise
from dropkit.variants.regularization import regularization_loss


def uniform(shape, seed=1):
    with dk.keyed(seed):
        return draw_noise(shape, "uniform").double()


def formula(p, u, t=0.1):
    """The paper's, in float64."""
    z = torch.sigmoid((math.log(p) - math.log(1 - p) + u.log() - (1 - u).log()) / t)
    return (1 - z) / (1 - p)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_formula(p, temperature, as_tensor):
    x = torch.randn(50, 7, dtype=torch.float64)
    rate = torch.tensor(p, dtype=torch.float64) if as_tensor else p
    with dk.keyed(1):
        y = concrete_dropout(x, rate, temperature=temperature)
    expected = x * formula(p, uniform(x.shape), temperature)
    # The logarithms' 1e-7 changes the logit by at most 1e-7 / min(p, 1 - p), and the mask by a quarter of that / t.
    assert float(((y - expected) / x).abs().max()) < 1e-7 / min(p, 1 - p) / (4 * temperature) / (1 - p) * 1.01


def test_values_above_one_half_are_dropped_at_the_rate():
    # Hoeffding: the fraction of n decisions leaves p by more than sqrt(ln(2 / 1e-6) / 2 n) with probability 1e-6.
    n = 200000
    torch.manual_seed(3)
    for p in (0.1, 0.5, 0.8):
        z = 1 - concrete_dropout(torch.ones(n), p) * (1 - p)
        assert abs(float((z > 0.5).double().mean()) - p) < math.sqrt(math.log(2e6) / (2 * n))


def test_every_element_has_noise_of_its_own():
    # Of 1000 uniform numbers with 23 bits, 20 pairs agree with probability below 1e-40.
    torch.manual_seed(0)
    y = concrete_dropout(torch.ones(10, 100), 0.5, temperature=2.0)
    assert y.unique().numel() > 980
    module = ConcreteDropout(nn.Linear(100, 100, bias=False), p=0.5, temperature=2.0)
    with torch.no_grad():
        module.weight.copy_(torch.eye(100))
        assert module(torch.ones(10, 100)).unique().numel() > 980
        assert not torch.equal(module(torch.ones(10, 100)), module(torch.ones(10, 100)))


@pytest.mark.parametrize("shape", [(2, 8, 5, 6), (8, 5, 6)])
def test_whole_channels_of_images(shape):
    module = ConcreteDropout(nn.Conv2d(8, 8, 1, bias=False, groups=8), p=0.5, temperature=2.0, share_dims=(-2, -1))
    with torch.no_grad():
        module.weight.fill_(1.0)
        y = module(torch.ones(shape))
    assert torch.equal(y, y[..., :1, :1].expand_as(y))
    assert y[..., 0, 0].unique().numel() == math.prod(shape[:-2])


@pytest.mark.parametrize("seed", range(3))
def test_the_rate_has_the_gradient_of_its_formula(seed):
    torch.manual_seed(seed)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    for p in (0.05, 0.4, 0.9):
        rate = torch.tensor(p, dtype=torch.float64, requires_grad=True)

        def run(x, rate):
            with dk.keyed(1):
                return concrete_dropout(x, rate, temperature=0.5)

        assert torch.autograd.gradcheck(run, (x, rate))
        assert torch.autograd.gradgradcheck(run, (x, rate))
    module = ConcreteDropout(nn.Linear(5, 3), p=0.3, temperature=0.5).double()

    def loss(logit):
        with dk.keyed(1):
            return torch.func.functional_call(module, {"p_logit": logit}, (x.detach(),)).square().sum()

    assert torch.autograd.gradcheck(loss, (module.p_logit.detach().requires_grad_(),))


def test_evaluation_is_silent():
    module, x = ConcreteDropout(nn.Linear(4, 3), p=0.9).eval(), torch.randn(6, 4)
    state = torch.get_rng_state()
    assert torch.equal(module(x), F.linear(x, module.weight, module.bias))
    assert concrete_dropout(x, 0.5, training=False) is x
    assert concrete_dropout(x, torch.tensor(0.5), training=False) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_a_rate_of_zero_keeps_everything():
    x, state = torch.randn(1000), torch.get_rng_state()
    assert concrete_dropout(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)
    with dk.keyed(2):
        concrete_dropout(x, 0.0)
        after_none = concrete_dropout(x, 0.5)
    with dk.keyed(2):
        concrete_dropout(x, 0.5)
        assert torch.equal(concrete_dropout(x, 0.5), after_none)
    assert torch.equal(concrete_dropout(x, torch.tensor(0.0)), x)
    module = ConcreteDropout(nn.Linear(4, 3), p=0.0)
    data = torch.randn(6, 4)
    assert torch.equal(module(data), module.eval()(data))
    module.p = 0.9
    assert not torch.equal(module.train()(data), module.eval()(data))


def test_a_rate_of_one_leaves_nothing():
    x = torch.tensor([1.0, math.nan, math.inf, -math.inf])
    for rate in (1.0, torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64)):
        assert torch.equal(concrete_dropout(x, rate), torch.zeros(4))
    module = ConcreteDropout(nn.Linear(4, 3), p=1.0)
    assert torch.equal(module(torch.randn(2, 4)), module.bias.expand(2, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.0, 1e-30, 1e-7, 1 - 2.0**-24, 1.0])
def test_edges_have_finite_gradients(p, dtype):
    x = torch.randn(300, dtype=dtype, requires_grad=True)
    rate = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    y = concrete_dropout(x, rate)
    grads = torch.autograd.grad(y.float().sum(), (x, rate))
    module = ConcreteDropout(nn.Linear(4, 3), p=p).to(dtype)
    out = module(torch.randn(2, 4, dtype=dtype)).float().sum() + module.regularization()
    for value in (y, out, *grads, *torch.autograd.grad(out, tuple(module.parameters()))):
        assert bool(value.isfinite().all())
    if p in (0.0, 1.0):
        assert torch.equal(grads[0], torch.full_like(x, 1 - p))


def test_the_mean_is_nearly_preserved():
    # The midpoint rule on a million points; the documented bounds.
    u = (torch.arange(10**6, dtype=torch.float64) + 0.5) / 10**6
    for p in (0.01, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5):
        mean = float(_soft_mask(torch.tensor(p, dtype=torch.float64), u, 0.1).mean())
        assert 0.9979 < mean < 1.00001, p
    assert 1.01 < float(_soft_mask(torch.tensor(0.9, dtype=torch.float64), u, 0.1).mean()) < 1.012


@pytest.mark.parametrize(("make", "features"), [
    (lambda: nn.Linear(6, 2), 6), (lambda: nn.Conv2d(6, 4, 3, groups=2), 6), (lambda: nn.Conv1d(3, 4, 5), 3)])
def test_the_regulariser(make, features):
    layer = make()
    with torch.no_grad():
        layer.bias.fill_(1e3)  # the paper's norm is that of the weight alone
    module = ConcreteDropout(layer.double(), p=0.2, weight_regularizer=0.5, dropout_regularizer=0.25)
    squares = float(layer.weight.detach().square().sum())
    expected = 0.5 * squares / 0.8 + 0.25 * features * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert float(module.regularization().detach()) == pytest.approx(expected, rel=1e-12)
    assert float(regularization_loss(module, data_size=100).detach()) == pytest.approx(expected, rel=1e-12)
    slope, = torch.autograd.grad(module.regularization(), module.p_logit)  # by p, times p (1 - p)
    by_p = 0.5 * squares / 0.8**2 + 0.25 * features * (math.log(0.2) - math.log(0.8))
    assert float(slope) == pytest.approx(by_p * 0.2 * 0.8, rel=1e-9)


def test_the_rate_is_read_and_set_like_any_other():
    module = ConcreteDropout(nn.Linear(3, 4), p=0.2)
    parameter = module.p_logit
    assert type(module.p) is float
    assert module.p == pytest.approx(0.2, abs=1e-7)
    assert float(module.p_logit.detach()) == pytest.approx(math.log(0.25), abs=1e-6)
    for p in (0.0, 2.0**-32, 0.7, 1 - 2.0**-24, 1.0):
        module.p = p
        assert module.p == pytest.approx(p, rel=1e-5)
        assert (module.p in (0.0, 1.0)) is (p in (0.0, 1.0))
    assert module.p_logit is parameter
    with torch.no_grad():
        module.p_logit.fill_(-1e4)
    assert module.p == 0.0
    for bad in (-0.1, 1.1, math.nan, "x", None):
        with pytest.raises(dk.InputError, match="p is a probability of dropping"):
            module.p = bad
    assert module.half().current_rate().dtype is torch.float32


def test_the_layer_is_adopted():
    layer = nn.Linear(3, 4)
    module = ConcreteDropout(layer, temperature=0.2)
    assert module.weight is layer.weight
    assert set(module.state_dict()) == {"weight", "bias", "p_logit"}
    assert repr(module) == "ConcreteDropout(in_features=3, out_features=4, bias=True, p=0.1, temperature=0.2)"
    other = ConcreteDropout(nn.Linear(3, 4), 0.9)
    other.load_state_dict(module.state_dict())
    assert other.p == module.p == copy.deepcopy(module).p


NO_RATE = "a learned rate is a floating-point tensor with no dimensions; got torch."


@pytest.mark.parametrize(("kwargs", "text"), [
    ({"p": 1.5}, "p is a probability"), ({"p": torch.ones(2)}, NO_RATE + r"float32 of shape \(2,\)"),
    ({"p": torch.tensor(1)}, NO_RATE + "int64"), ({"temperature": 0.0}, "a temperature"),
    ({"temperature": "x"}, "a temperature"), ({"share_dims": (3,)}, "share_dims are"), ({"share_dims": 1}, "share_dims is")])
def test_wrong_arguments_are_refused(kwargs, text):
    with pytest.raises(dk.InputError, match=text):
        concrete_dropout(torch.ones(2, 3), **kwargs)


def test_wrong_data_and_settings_are_refused():
    for rate in (0.0, 0.5):
        with pytest.raises(dk.InputError, match="floating-point data"):
            concrete_dropout(torch.ones(2, dtype=torch.int64), rate)
    for name, bad in (("weight_regularizer", -1.0), ("dropout_regularizer", math.inf), ("temperature", -0.1),
                      ("share_dims", "x"), ("p", 2), ("weight_regularizer", None)):
        with pytest.raises(dk.InputError, match=name.replace("temperature", "a temperature")):
            ConcreteDropout(nn.Linear(2, 2), **{name: bad})
    with pytest.raises(dk.InputError, match="a layer to adopt"):
        ConcreteDropout(nn.ReLU())


def learned_rates(count, steps=1200):
    """The paper's experiment: y = 2 x + 8 + noise of standard deviation 1; a network with a mean and a log variance."""
    torch.manual_seed(0)
    x = torch.randn(count, 1)
    target = 2 * x + 8 + torch.randn(count, 1)
    wanted = {"weight_regularizer": 1e-8 / count, "dropout_regularizer": 2 / count}  # length scale 1e-4
    body = nn.Sequential(ConcreteDropout(nn.Linear(1, 64), **wanted), nn.ReLU(), ConcreteDropout(nn.Linear(64, 64), **wanted),
                         nn.ReLU(), ConcreteDropout(nn.Linear(64, 2), **wanted))
    rates = [module for module in body if isinstance(module, ConcreteDropout)]
    logits = [module.p_logit for module in rates]
    others = [parameter for module in rates for name, parameter in module.named_parameters() if name != "p_logit"]
    optimizer = torch.optim.Adam([{"params": others, "lr": 3e-3}, {"params": logits, "lr": 2e-2}])
    for _ in range(steps):
        batch = torch.randint(count, (min(count, 256),))
        mean, log_variance = body(x[batch]).chunk(2, 1)
        error = ((target[batch] - mean) ** 2 * torch.exp(-log_variance) + log_variance).mean()
        optimizer.zero_grad()
        (error + regularization_loss(body)).backward()
        optimizer.step()
    return [module.p for module in rates]


@pytest.mark.slow
def test_more_data_means_lower_rates():
    scarce, ample = learned_rates(20), learned_rates(10000)
    assert all(few > 2 * many for few, many in zip(scarce, ample, strict=True))
