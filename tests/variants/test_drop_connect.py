import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.drop_connect import DropConnect, drop_connect, drop_connect_moments

LAYERS = [(lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4), (5, 3, 6)),
          (lambda: nn.Conv1d(2, 4, 3, padding="same", padding_mode="circular"), (5, 2, 9)),
          (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 8, 7)),
          (lambda: nn.Conv3d(2, 2, 2, dilation=2), (5, 2, 4, 5, 4))]


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_each_example_has_a_mask_of_its_own(make, shape):
    """A loop over examples that applies each one's masked weight gives the same; the ports share one mask."""
    layer, x = make(), torch.randn(shape)
    with dk.keyed(2):
        y = DropConnect(layer, 0.5)(x)
    with dk.keyed(2):
        weights = dk.functional.dropout(layer.weight.expand(5, *layer.weight.shape), 0.5)
    assert not torch.equal(weights[0] == 0, weights[1] == 0)
    for example, weight, found in zip(x, weights, y, strict=True):
        single = torch.func.functional_call(layer, {"weight": weight}, (example[None],))[0]
        assert torch.allclose(single, found, atol=1e-5)


def test_per_batch_shares_one_mask():
    y = DropConnect(nn.Linear(6, 4), 0.5, per="batch")(torch.randn(1, 6).expand(5, 6))
    assert torch.allclose(y, y[:1].expand(5, 4))


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
def test_gaussian_inference_has_the_moments_of_the_masks(scaling):
    """10^5 masks and 10^5 samples against the formula: 16 comparisons at 5.4 standard errors, false-alarm rate 1e-6."""
    torch.manual_seed(0)
    count, layer, x = 100_000, nn.Linear(6, 4), torch.randn(1, 6)
    module = DropConnect(layer, 0.3, scaling=scaling, inference="gaussian")
    mean, variance = (m.detach().double() for m in drop_connect_moments(x, layer.weight, layer.bias, 0.3, scaling=scaling))
    for training in (True, False):
        drawn = module.train(training)(x.expand(count, 6)).detach().double()
        assert bool(((drawn.mean(0) - mean).abs() < 5.4 * (variance / count).sqrt()).all())
        fourth = ((drawn - drawn.mean(0)) ** 4).mean(0)
        error = ((fourth - drawn.var(0) ** 2) / count).sqrt()
        assert bool(((drawn.var(0) - variance).abs() < 5.4 * error).all())


def test_evaluation_is_the_mean_by_default():
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    assert torch.equal(DropConnect(layer, 0.4).eval()(x), layer(x))
    classic = DropConnect(layer, 0.4, scaling="classic").eval()(x)
    assert torch.allclose(classic, (layer(x) - layer.bias) * 0.6 + layer.bias, atol=1e-6)


def test_rate_one_leaves_the_bias_with_zero_gradients():
    layer = nn.Linear(6, 4)
    y = DropConnect(layer, 1.0)(torch.randn(5, 6))
    assert torch.equal(y, layer.bias.expand(5, 4))
    y.sum().backward()
    assert bool((layer.weight.grad == 0).all())


def test_the_layer_is_adopted():
    layer = nn.Linear(6, 4)
    module = DropConnect(layer, 0.5)
    assert module.weight is layer.weight
    assert list(module.state_dict()) == list(layer.state_dict())


def test_wrong_choices_are_refused():
    with pytest.raises(dk.InputError, match="per is"):
        DropConnect(nn.Linear(2, 2), per="layer")
    with pytest.raises(dk.InputError, match="inference is"):
        drop_connect(torch.ones(1, 2), torch.ones(2, 2), inference="mc")
    with pytest.raises(dk.InputError, match="layer to adopt"):
        DropConnect(nn.ReLU())


def test_the_realised_rate_of_weights():
    with dk.keyed(1):
        y = drop_connect(torch.eye(50), torch.ones(80, 50), None, 0.3)  # each example sees one column of its own mask
    assert abs(float((y == 0).double().mean()) - 0.3) < math.sqrt(math.log(2 / 1e-6) / (2 * y.numel()))
