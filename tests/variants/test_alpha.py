import math

import pytest
import torch
import torch.nn.functional as F

import dropkit as dk
from dropkit.core.masks import SELU_LOWEST as LOWEST
from dropkit.core.streams import site_key
from dropkit.kernels.dispatch import backends, keep_mask
from dropkit.variants.alpha import AlphaDropout, FeatureAlphaDropout, alpha_dropout, feature_alpha_dropout

FALSE_ALARM = 1e-6
CASES = [(alpha_dropout, AlphaDropout, (40, 6, 5), (40, 6, 5)),
         (feature_alpha_dropout, FeatureAlphaDropout, (40, 6, 5), (40, 6, 1))]
cases = pytest.mark.parametrize(("function", "kind", "shape", "mask"), CASES, ids=["elements", "channels"])


def formula(x, p, keep):
    """The paper's, in float64, with the rate that masks realise: a (x m + a' (1 - m)) + b."""
    p = round(p * 2**32) / 2**32
    a = 1 / math.sqrt((1 - p) * (1 + p * LOWEST**2))
    return a * torch.where(keep, x, LOWEST) - a * LOWEST * p


def kept(shape, p, seed):
    with dk.keyed(seed):
        key, stream = site_key()
    return keep_mask(shape, key, torch.tensor(p, dtype=torch.float64), stream)


def test_the_lowest_value_is_selus_in_double_precision():
    assert F.selu(torch.tensor(-1e4, dtype=torch.float64)).item() == LOWEST
    assert abs(LOWEST + 1.7580993408473766) < 1e-15


@cases
@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9])
def test_values_are_those_of_the_formula(function, kind, shape, mask, p):
    x = torch.randn(shape, dtype=torch.float64)
    with dk.keyed(3):
        y = function(x, p)
    expected = formula(x, p, kept(mask, p, 3))
    assert torch.allclose(y, expected, rtol=1e-13, atol=1e-13)
    if p >= 0.1:
        assert 0 < int((~kept(mask, p, 3)).sum()) < math.prod(mask)


@cases
@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_mean_and_variance_are_kept_in_expectation(function, kind, shape, mask, p):
    x = torch.ones(20000, 10, 1, dtype=torch.float64)
    x[::2] = -1  # mean 0 and variance 1 exactly, and y has three values, so that Hoeffding's bound applies
    torch.manual_seed(0)
    y = function(x, p)
    values = formula(torch.tensor([-1.0, 1.0, 0.0], dtype=torch.float64), p, torch.tensor([True, True, False]))
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * x.numel()))
    assert abs(float(y.mean())) < bound * float(values.max() - values.min())
    assert abs(float((y**2).mean()) - 1) < bound * float((values**2).max() - (values**2).min())


def test_the_mean_of_a_fixed_input_moves():
    # E[y] = a (1 - p) x: what the catalog does not claim. For x = 1 the bound below excludes 1 by far.
    p, n = 0.5, 100000
    torch.manual_seed(0)
    y = alpha_dropout(torch.ones(n, dtype=torch.float64), p)
    expected = (1 - p) / math.sqrt((1 - p) * (1 + p * LOWEST**2))
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n)) * float(y.max() - y.min())
    assert abs(float(y.mean()) - expected) < bound < (1 - expected) / 10


@cases
def test_rate_one_is_zero_with_zero_gradients(function, kind, shape, mask):
    x = torch.randn(shape)
    x.view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf])
    x.requires_grad_()
    y = function(x, 1.0)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(shape))
    assert torch.equal(x.grad, torch.zeros(shape))


@cases
def test_dropped_nan_takes_the_value_of_the_dropped(function, kind, shape, mask):
    with dk.keyed(3):
        y = function(torch.full(shape, math.nan, dtype=torch.float64), 0.5)
    keep = kept(mask, 0.5, 3).expand(shape)
    assert bool(y[keep].isnan().all())
    assert torch.allclose(y[~keep], formula(torch.tensor(0.0), 0.5, torch.tensor(False)).double())
    assert bool((~keep).any())


@cases
def test_the_gradient_uses_the_mask_of_the_forward_pass(function, kind, shape, mask):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    with dk.keyed(3):
        y = function(x, 0.3)
    y.sum().backward()
    realised = round(0.3 * 2**32) / 2**32
    a = 1 / math.sqrt((1 - realised) * (1 + realised * LOWEST**2))
    assert torch.allclose(x.grad, a * kept(mask, 0.3, 3).double().expand(shape), rtol=1e-14, atol=0)


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_inplace_is_honoured(function, kind, shape, mask, dtype):
    # torch.nn.AlphaDropout(inplace=True) returns a new tensor and leaves its input alone.
    x = torch.randn(shape).to(dtype)
    with dk.keyed(1):
        expected = function(x, 0.5)
    module = kind(0.5, inplace=True)
    with dk.keyed(1):
        y = module(x)
    assert y is x
    assert torch.equal(x, expected)


@cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(function, kind, shape, mask, dtype):
    x = torch.randn(shape).to(dtype)
    with dk.keyed(1):
        wide = function(x.float(), 0.3)
    with dk.keyed(1):
        assert torch.equal(function(x, 0.3), wide.to(dtype))


@cases
def test_nothing_is_saved_but_seed_and_rate(function, kind, shape, mask):
    saved = []
    bytes_of_mask = 0 if backends()[0].backend == "native" else 64 * 64 * (64 if mask[-1] > 1 else 1)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        function(torch.ones(64, 64, 64, requires_grad=True), 0.3)
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 64 + bytes_of_mask


@cases
def test_it_acts_by_default(function, kind, shape, mask):
    x = torch.randn(shape)
    assert function(x) is not x
    assert torch.equal(getattr(F, function.__name__)(x), x)  # torch's does not
    assert function(x, 0.5, training=False) is x


def test_channels_are_those_of_torch():
    # 40 runs at p = 0.5: two independent decisions out of 6 agree in all of them with a probability below 1e-10.
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 1, 2).clamp(-1, 1)  # above SELU's lowest value, so that what is dropped is the minimum
    dropped = []
    for function in (feature_alpha_dropout, F.feature_alpha_dropout):
        runs = torch.stack([function(x, 0.5, True) for _ in range(40)])
        low = (runs - runs.amin()).abs() < 1e-5
        assert torch.equal(low, low[:, :, :, :1, :, :1].expand_as(low))
        dropped.append(len(set(map(tuple, low[:, :, :, 0, 0, 0].flatten(1).t().tolist()))))
    assert dropped == [6, 6]


def test_channels_last():
    x = torch.randn(4, 6, 3, 2)
    with dk.keyed(1):
        first = feature_alpha_dropout(x)
    with dk.keyed(1):
        last = feature_alpha_dropout(x.movedim(1, -1), channel_dim=-1)
    assert torch.equal(last, first.movedim(1, -1))


@pytest.mark.parametrize("training", [True, False])
def test_wrong_calls_of_feature_alpha_dropout(training):
    with pytest.raises(dk.InputError, match=r"at least 2 dimensions.*got \(5,\)"):
        feature_alpha_dropout(torch.ones(5), 0.5, training)
    with pytest.raises(dk.InputError, match="channel_dim is"):
        feature_alpha_dropout(torch.ones(5, 2), 0.5, training, channel_dim=0)
    with pytest.raises(dk.InputError, match="channel_dim is"):
        FeatureAlphaDropout(channel_dim=True)


@cases
@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_other_data_is_refused(function, kind, shape, mask, dtype):
    with pytest.raises(dk.InputError, match="real floating-point"):
        function(torch.ones(shape, dtype=dtype))
    with pytest.raises(dk.InputError, match="probability of dropping"):
        kind(1.5)
