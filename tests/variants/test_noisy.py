import math

import pytest
import torch

import dropkit as dk
from dropkit.variants.noisy import GaussianDropout, UniformDropout, gaussian_dropout, uniform_dropout

FALSE_ALARM = 1e-6
N = 200_000
FUNCTIONS = [gaussian_dropout, uniform_dropout]
both = pytest.mark.parametrize("function", FUNCTIONS)


def factors(function, strength, **options):
    torch.manual_seed(0)
    return function(torch.ones(N, dtype=torch.float64), strength, **options)


def largest_deviation(values, cdf):
    """Kolmogorov's statistic."""
    expected = cdf(values.sort().values)
    steps = torch.arange(N + 1, dtype=torch.float64) / N
    return max(float((steps[1:] - expected).max()), float((expected - steps[:-1]).max()))


BOUND = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * N))  # of Dvoretzky, Kiefer, Wolfowitz and Massart, and of Hoeffding


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_gaussian_noise_has_the_law_it_claims(p):
    deviation = math.sqrt(p / (1 - p))
    y = factors(gaussian_dropout, p)
    assert largest_deviation(y, lambda v: torch.special.ndtr((v - 1) / deviation)) < BOUND
    # The mean of N normal values is normal; their variance is chi-squared (Laurent and Massart's bound).
    assert abs(float(y.mean()) - 1) < deviation * math.sqrt(2 * math.log(2 / FALSE_ALARM) / N)
    t = math.log(2 / FALSE_ALARM) / N
    assert abs(float(((y - 1) ** 2).mean()) / deviation**2 - 1) < 2 * (math.sqrt(t) + t)


@pytest.mark.parametrize("b", [0.1, 1.0])
def test_uniform_noise_has_the_law_it_claims(b):
    y = factors(uniform_dropout, b)
    assert bool(((y - 1).abs() < b).all())
    assert largest_deviation(y, lambda v: (v - 1 + b) / (2 * b)) < BOUND
    assert abs(float((y**2).mean()) - (1 + b**2 / 3)) < BOUND * 4 * b  # y^2 lies between (1 - b)^2 and (1 + b)^2


@both
def test_the_gradient_is_the_factor(function):
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    y = function(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@both
def test_shared_dims_share_and_others_do_not(function):
    with dk.keyed(1):
        y = function(torch.ones(4, 5, 6), 0.5, share_dims=(1, -1))
    with dk.keyed(1):
        assert torch.equal(function(torch.ones(4, 1, 1), 0.5).expand(4, 5, 6), y)
    assert len(y.unique()) == 4


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(function, dtype):
    x = torch.randn(1000).to(dtype)
    with dk.keyed(1):
        wide = function(x.float(), 0.3)
    with dk.keyed(1):
        assert torch.equal(function(x, 0.3), wide.to(dtype))


@both
def test_nothing_is_drawn_without_need(function):
    x, state = torch.ones(3), torch.get_rng_state()
    assert function(x, 0.0) is x
    assert function(x, 0.5, training=False) is x
    assert torch.equal(state, torch.get_rng_state())


@both
def test_noise_of_its_own_at_every_use(function):
    with dk.keyed(1):
        first, second = function(torch.ones(9), 0.5), function(torch.ones(9), 0.5)
    with dk.keyed(1):
        assert function(torch.ones(9), 0.0) is not first
        assert torch.equal(function(torch.ones(9), 0.5), second)  # a use at rate 0 is counted
    assert not torch.equal(first, second)


def test_a_rate_of_one_is_refused_in_words():
    # Keras divides by zero there.
    for attempt in (lambda: gaussian_dropout(torch.ones(3), 1.0), lambda: gaussian_dropout(torch.ones(3), 1, training=False),
                    lambda: GaussianDropout(1.0), lambda: setattr(GaussianDropout(), "p", 1.0)):
        with pytest.raises(dk.InputError, match=r"number in \[0, 1\); got 1"):
            attempt()


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, True, "0.1", None])
def test_a_wrong_half_width_is_refused_under_its_own_name(bad):
    module = UniformDropout(0.2)
    for attempt in (lambda: uniform_dropout(torch.ones(3), bad), lambda: UniformDropout(bad),
                    lambda: setattr(module, "b", bad)):
        with pytest.raises(dk.InputError, match="b is the half width of the noise"):
            attempt()
    assert module.b == 0.2


def test_the_half_width_may_change():
    module = UniformDropout(0.0)
    x = torch.ones(100)
    assert module(x) is x
    module.b = 0.5
    assert 0.1 < float((module(x) - 1).abs().max()) < 0.5
    assert float(module.half().width) == 0.5  # not rounded, not moved
    assert not module.state_dict()


def test_a_changed_half_width_recompiles_nothing():
    torch.compiler.reset()
    module, x = UniformDropout(0.5), torch.ones(100)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    compiled(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for b in (0.1, 0.0, 1.0):
            module.b = b
            torch.manual_seed(0)
            y = compiled(x)
            torch.manual_seed(0)
            assert torch.equal(y, module(x))


@both
def test_wrong_data_and_dims_are_refused(function):
    with pytest.raises(dk.InputError, match="floating-point data"):
        function(torch.ones(3, dtype=torch.int64))
    with pytest.raises(dk.InputError, match="share_dims are dimensions"):
        function(torch.ones(3), share_dims=(1,))
    with pytest.raises(dk.InputError, match="share_dims holds integers"):
        (GaussianDropout if function is gaussian_dropout else UniformDropout)(share_dims=("a",))


def test_repr():
    assert repr(GaussianDropout(0.25)) == "GaussianDropout(p=0.25)"
    assert repr(UniformDropout(0.25, share_dims=[1])) == "UniformDropout(b=0.25, share_dims=(1,))"
