import math
from functools import partial

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.draw import draw_noise
from dropkit.variants.drop_connect import DropConnect, drop_connect, drop_connect_moments
from dropkit.variants.layers import apply_layer, check_layer

FALSE_ALARM = 1e-6
# torch's own warning, which its layer gives too
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
LAYERS = [
    (lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4, bias=False), (3, 2, 6)),
    (lambda: nn.Linear(6, 4), (2, 3, 2, 6)),
    (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, padding_mode="circular", groups=2), (5, 4, 9)),
    (lambda: nn.Conv2d(3, 4, (3, 2), padding="same", dilation=2, padding_mode="reflect"), (3, 3, 7, 8)),
    (lambda: nn.Conv2d(4, 4, 3, padding="valid", bias=False, groups=4), (3, 4, 7, 8)),
    (lambda: nn.Conv2d(3, 4, (1, 4), padding="same"), (2, 3, 7, 8)),
    (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 2, 3, 4, 3)),
]
layers = pytest.mark.parametrize(("make", "shape"), LAYERS)


def made(make, shape, **options):
    torch.manual_seed(0)
    module = DropConnect(make().double(), **options)
    return module, torch.randn(shape, dtype=torch.float64)


def masked_weights(module, count):
    """The weights of each example, found from the masks of the contract: those of data of the expanded weight's shape."""
    many = module.weight.detach().expand(count, *module.weight.shape)
    with dk.keyed(5):
        return dk.functional.dropout(many.clone(), module.p)


@layers
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_each_example_has_a_mask_of_its_own(make, shape, p):
    module, x = made(make, shape, p=p)
    with dk.keyed(5):
        y = module(x)
    weights = masked_weights(module, len(x))
    expected = torch.stack([apply_layer(one, weight, module.bias, module.geometry)
                            for one, weight in zip(x, weights, strict=True)])
    assert torch.allclose(y, expected, rtol=1e-12, atol=1e-12)
    assert len({tuple((weight != 0).flatten().tolist()) for weight in weights}) == (len(x) if p < 1 else 1)


@layers
def test_one_mask_a_batch(make, shape):
    module, x = made(make, shape, p=0.3, per="batch")
    with dk.keyed(5):
        y = module(x)
    weight = masked_weights(module, 1)[0]
    assert torch.allclose(y, apply_layer(x, weight, module.bias, module.geometry), rtol=1e-12, atol=1e-12)


@layers
def test_an_example_without_the_batch_dimension(make, shape):
    module, x = made(make, shape, p=0.3)
    if module.geometry.spatial or x.dim() == 2:  # a linear layer reads (length, features) as examples
        with dk.keyed(5):
            y = module(x[0])
        with dk.keyed(5):
            assert torch.allclose(y, module(x[:1])[0], rtol=1e-12, atol=1e-12)


def test_equal_examples_differ():
    # The defect of ports: one mask for all. 40 rows of 12 weights each have one mask by chance with probability 2^-468.
    y = drop_connect(torch.ones(40, 12, dtype=torch.float64), torch.rand(1, 12, dtype=torch.float64))
    assert y.unique().numel() > 1
    assert drop_connect(torch.ones(40, 12), torch.rand(1, 12), per="batch").unique().numel() == 1


@layers
@pytest.mark.parametrize("per", ["example", "batch"])
def test_gradients_have_the_mask_of_the_forward_pass(make, shape, per):
    module, x = made(make, shape, p=0.4, per=per)
    count = len(x) if per == "example" else 1
    with dk.keyed(5):
        module(x).sum().backward()
    weights = masked_weights(module, count).requires_grad_()
    wide = weights if per == "example" else weights.expand(len(x), *module.weight.shape)
    torch.stack([apply_layer(one, weight, None, module.geometry) for one, weight in zip(x, wide, strict=True)]).sum().backward()
    exact = 2**32 / (2**32 - math.floor(0.4 * 2**32 + 0.5))
    expected = (weights.grad * (weights.detach() != 0) * exact).sum(0)
    assert torch.allclose(module.weight.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 2), lambda: nn.Conv1d(2, 2, 2, padding=1)])
@pytest.mark.parametrize("per", ["example", "batch"])
def test_gradients_to_second_order(make, per):
    module, x = made(make, (2, 3) if isinstance(make(), nn.Linear) else (2, 2, 3), per=per)

    def call(x, weight, bias):
        return drop_connect(x, weight, bias, 0.4, per=per, geometry=module.geometry,
                            generator=torch.Generator().manual_seed(1))

    inputs = (x.requires_grad_(), module.weight, module.bias)
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@layers
@pytest.mark.parametrize("scaling", ["inverted", "classic"])
def test_moments_are_those_of_the_sum(make, shape, scaling):
    module, x = made(make, shape, p=0.3, scaling=scaling)
    geometry, q = module.geometry, 0.7
    mean, variance = drop_connect_moments(x, module.weight, module.bias, 0.3, scaling=scaling, geometry=geometry)
    one, spread = (1.0, 0.3 / q) if scaling == "inverted" else (q, 0.3 * q)
    assert torch.allclose(mean, apply_layer(x, one * module.weight, module.bias, geometry), rtol=1e-12, atol=1e-12)
    assert torch.allclose(variance, spread * apply_layer(x**2, module.weight**2, None, geometry), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_moments_are_those_of_the_masks(scaling, p):
    # n outputs of masks lie within R of each other, R = sum |w x| scale, so by Hoeffding's inequality their mean is within
    # R sqrt(ln(2 / a) / 2n) of the expectation, and that of (u - mean)^2, which lies in [0, R^2], within R^2 of the same.
    torch.manual_seed(0)
    count, n = 3, 100_000
    x, weight, bias = torch.randn(1, 8).double(), torch.randn(count, 8).double(), torch.randn(count).double()
    generator = torch.Generator().manual_seed(2)
    u = drop_connect(x.expand(n, 8), weight, bias, p, scaling=scaling, generator=generator)
    mean, variance = drop_connect_moments(x, weight, bias, p, scaling=scaling)
    width = (weight * x).abs().sum(1) / (1 - p if scaling == "inverted" else 1)
    slack = math.sqrt(math.log(4 * count / FALSE_ALARM) / (2 * n))
    assert bool(((u.mean(0) - mean[0]).abs() < width * slack).all())
    assert bool((((u - mean) ** 2).mean(0) - variance[0]).abs().lt(width**2 * slack).all())
    assert bool((width**2 * slack < variance[0]).all())  # a bound that could not fail would show nothing


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
def test_gaussian_inference_draws_what_the_masks_would(scaling):
    # The other defect: the mean alone. Of n normals the mean leaves by more than sqrt(2 t v / n), and the sum of squares by
    # more than 2 sqrt(n t) + 2 t, with probability at most 2 e^-t each (Chernoff; Laurent and Massart 2000).
    torch.manual_seed(0)
    count, n = 3, 100_000
    t = math.log(4 * count / FALSE_ALARM)
    module = DropConnect(nn.Linear(8, count).double(), 0.4, inference="gaussian", scaling=scaling).eval()
    x = torch.randn(1, 8).double()
    with torch.no_grad():
        u = module(x.expand(n, 8))
    mean, variance = drop_connect_moments(x, module.weight, module.bias, 0.4, scaling=scaling)
    z = (u - mean) / variance.sqrt()
    assert bool((z.mean(0).abs() < math.sqrt(2 * t / n)).all())
    assert bool((((z**2).sum(0) - n).abs() < 2 * math.sqrt(n * t) + 2 * t).all())
    assert bool((torch.corrcoef(z.T).fill_diagonal_(0).abs() < 6 / math.sqrt(n)).all())  # outputs are drawn independently


@layers
def test_gaussian_inference_is_exactly_mean_and_noise(make, shape):
    module, x = made(make, shape, p=0.3, inference="gaussian")
    module.eval()
    with dk.keyed(5):
        y = module(x)
    mean, variance = drop_connect_moments(x, module.weight, module.bias, 0.3, geometry=module.geometry)
    with dk.keyed(5):
        noise = draw_noise(mean.shape, "normal")
    assert torch.allclose(y, mean + variance.sqrt() * noise, rtol=1e-12, atol=1e-12)


@layers
def test_mean_inference_is_the_layer_and_draws_nothing(make, shape):
    module, x = made(make, shape, p=0.3)
    classic, state = DropConnect(make().double(), 0.3, scaling="classic").eval(), torch.get_rng_state()
    geometry = module.geometry
    assert torch.equal(module.eval()(x), apply_layer(x, module.weight, module.bias, geometry))
    expected = apply_layer(x, 0.7 * classic.weight, classic.bias, geometry)
    assert torch.allclose(classic(x), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(state, torch.get_rng_state())


def test_classic_scaling_leaves_kept_weights_as_they_are():
    y = drop_connect(torch.eye(6, dtype=torch.float64), torch.full((4, 6), 3.0, dtype=torch.float64), scaling="classic")
    assert set(y.flatten().tolist()) == {0.0, 3.0}


def test_a_rate_of_one_leaves_the_bias_and_finite_gradients():
    for mode in ({"training": True}, {"training": False, "inference": "gaussian"}):
        x, weight = torch.full((2, 3), 2.0, requires_grad=True), torch.full((4, 3), math.inf, requires_grad=True)
        finite = weight if mode["training"] else torch.ones(4, 3, requires_grad=True)
        y = drop_connect(x, finite, torch.ones(4), p=1.0, **mode)
        y.sum().backward()
        assert torch.equal(y, torch.ones(2, 4))
        assert torch.equal(finite.grad, torch.zeros(4, 3))
        assert bool((x.grad == 0).all())


def test_dropped_infinities_are_gone():
    weight = torch.tensor([[math.inf, 1.0], [math.nan, 1.0]], dtype=torch.float64)
    y = drop_connect(torch.ones(60, 2, dtype=torch.float64), weight, scaling="classic")
    assert {0.0, 1.0} <= set(y[:, 0].tolist())
    assert bool(y[:, 1].isfinite().any())


def test_gaussian_inference_has_gradients_where_nothing_varies():
    x = torch.zeros(2, 3, requires_grad=True)
    weight = torch.ones(4, 3)
    drop_connect(x, weight, None, 0.5, False, inference="gaussian").sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 4.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_low_precision_are_computed_in_single(dtype):
    x, weight = torch.full((1, 3), 300.0, dtype=dtype), torch.ones(2, 3, dtype=dtype)  # 300 squared exceeds float16
    mean, variance = drop_connect_moments(x, weight, None, 0.5)
    assert torch.equal(mean, torch.full((1, 2), 900.0))
    assert torch.equal(variance, torch.full((1, 2), 3 * float(x[0, 0]) ** 2))
    y = drop_connect(x, weight, None, 0.5, False, inference="gaussian")
    assert y.dtype is dtype
    assert bool(y.isfinite().all())


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 3), lambda: nn.Conv2d(4, 6, 3, padding="same", groups=2)])
@pytest.mark.parametrize("per", ["example", "batch"])
def test_empty_batches_have_gradients(make, per):
    module = DropConnect(make(), per=per)
    x = torch.empty((0, 4) if isinstance(make(), nn.Linear) else (0, 4, 5, 5), requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert y.shape == apply_layer(x, module.weight, module.bias, module.geometry).shape
    assert torch.equal(module.weight.grad, torch.zeros_like(module.weight))
    assert x.grad.shape == x.shape


def test_channels_last_and_strided_data():
    module, x = made(lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 3, 7, 8))
    with dk.keyed(5):
        expected = module(x)
    for view in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
        with dk.keyed(5):
            assert torch.allclose(module(view), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["train", "gaussian", "classic"])
def test_compiled_convolutions_do_as_eager_ones_at_any_rate_and_batch(mode):
    torch.compiler.reset()
    options = {"train": {}, "gaussian": {"inference": "gaussian"}, "classic": {"scaling": "classic"}}[mode]
    module = DropConnect(nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect", groups=2), **options).train(mode == "train")
    graphs = []
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=lambda g, _: graphs.append(g) or g.forward)
    for p, count in ((0.5, 3), (0.1, 4), (0.0, 5), (1.0, 6)):
        module.p = p
        x = torch.randn(count, 4, 5, 5)
        with dk.keyed(1):
            y = module(x)
        with dk.keyed(1):
            assert torch.allclose(compiled(x), y, rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1


def test_vmap_over_convolutions():
    module, x = made(lambda: nn.Conv1d(2, 3, 2), (4, 2, 5))
    same = torch.vmap(module, randomness="same")(torch.stack([x, x]))
    different = torch.vmap(module, randomness="different")(torch.stack([x, x]))
    assert torch.allclose(same[0], same[1])
    assert not torch.allclose(different[0], different[1])


def test_settings_are_shown_and_passed_on():
    module, x = made(lambda: nn.Linear(6, 4), (5, 6), p=0.2, per="batch", inference="gaussian", scaling="classic")
    assert repr(module).endswith("p=0.2, per='batch', inference='gaussian', scaling='classic')")
    call = partial(drop_connect, x, module.weight, module.bias, 0.2, per="batch", inference="gaussian", scaling="classic")
    for training in (True, False):
        module.train(training)
        with dk.keyed(5):
            y = module(x)
        with dk.keyed(5):
            assert torch.equal(y, call(training))


@pytest.mark.parametrize(("options", "text"), [
    ({"per": "layer"}, 'per is "example" or "batch"; got \'layer\''), ({"inference": "mc"}, "inference is .*got 'mc'"),
    ({"scaling": "none"}, "scaling is"), ({"p": 1.5}, "probability of dropping"), ({"p": -0.1}, "probability of dropping")])
@pytest.mark.parametrize("training", [True, False])
def test_wrong_settings_are_refused(options, text, training):
    with pytest.raises(dk.InputError, match=text):
        drop_connect(torch.ones(2, 3), torch.ones(4, 3), training=training, **options)
    with pytest.raises(dk.InputError, match=text):
        DropConnect(nn.Linear(3, 4), **options)


def test_moments_check_their_input():
    x, weight = torch.ones(2, 3), torch.ones(4, 3)
    for options, text in (({"p": 1.5}, "probability of dropping"), ({"scaling": "none"}, "scaling is")):
        with pytest.raises(dk.InputError, match=text):
            drop_connect_moments(x, weight, **options)
    with pytest.raises(dk.InputError, match="floating-point"):
        drop_connect_moments(x.long(), weight)


def test_a_layer_that_cannot_be_adopted_is_refused():
    with pytest.raises(dk.InputError, match=r"nn\.Linear, nn\.Conv1d"):
        DropConnect(nn.LSTM(2, 2))
    assert check_layer(nn.Linear(1, 1)).kind == "linear"
