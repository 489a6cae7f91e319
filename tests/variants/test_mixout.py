import copy
import math
import pickle

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.layers import apply_layer
from dropkit.variants.mixout import Mixout, mixout

FALSE_ALARM = 1e-6
LAYERS = [(lambda: nn.Linear(6, 4), (5, 6)), (lambda: nn.Linear(6, 4, bias=False), (2, 3, 6)),
          (lambda: nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect", groups=2), (2, 4, 5, 6))]
layers = pytest.mark.parametrize(("make", "shape"), LAYERS)


def exact_scale(p):
    return 2**32 / (2**32 - math.floor(p * 2**32 + 0.5))


def weights(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)


def moved(make, p=0.7):
    torch.manual_seed(0)
    module = Mixout(make().double(), p)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module


@pytest.mark.parametrize("p", [0.2, 0.7, 0.9])
def test_every_element_is_pretrained_or_pushed_away_from_it(p):
    w, w0 = weights(40, 30)
    y = mixout(w, w0, p)
    taken = y == w0
    away = w0 + (w - w0) * exact_scale(p)
    assert torch.allclose(y[~taken], away[~taken], rtol=1e-14, atol=1e-14)
    assert torch.allclose(y[~taken], ((w - p * w0) / (1 - p))[~taken], rtol=1e-8, atol=1e-8)  # the paper's formula
    slack = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * taken.numel()))  # Hoeffding
    assert abs(float(taken.double().mean()) - p) < slack


def test_elements_are_mixed_one_by_one():
    # The defect of a port: the mask of one row for all rows, so that all rows would agree.
    w, w0 = weights(20, 50)
    taken = mixout(w, w0, 0.5) == w0
    assert len({tuple(row) for row in taken.tolist()}) == 20  # two of 190 pairs agree with probability below 2^-42
    assert len({tuple(row) for row in taken.mT.tolist()}) > 1


def test_the_gradient_is_the_mask_over_q():
    # The other defect: 1 / q is forgotten in the backward pass.
    w, w0 = (value.requires_grad_() for value in weights(30, 20))
    y = mixout(w, w0, 0.7)
    y.sum().backward()
    kept = (y != w0).detach().double()
    assert torch.allclose(w.grad, kept * exact_scale(0.7), rtol=1e-14, atol=0.0)
    assert torch.allclose(w0.grad, 1 - kept * exact_scale(0.7), rtol=1e-14, atol=1e-14)


def test_gradients_to_second_order():
    inputs = tuple(value.requires_grad_() for value in weights(3, 2))

    def call(w, w0):
        return mixout(w, w0, 0.4, generator=torch.Generator().manual_seed(1))

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(lambda w, w0: call(w, w0) ** 2, inputs)


def test_the_mean_is_the_weight():
    # n masks of one element at distance d of W0 lie in {0, d / q}: Hoeffding's bound for all elements together.
    w, w0 = weights(1, 6)
    p, n = 0.7, 40_000
    mean = mixout(w.expand(n, 6), w0.expand(n, 6), p).mean(0)
    slack = math.sqrt(math.log(2 * 6 / FALSE_ALARM) / (2 * n))
    width = (w - w0).abs()[0] * exact_scale(p)
    assert bool(((mean - w[0]).abs() < width * slack).all())


def test_mixing_with_zero_is_dropout():
    w, _ = weights(30, 20)
    with dk.keyed(5):
        y = mixout(w, torch.zeros_like(w), 0.3)
    with dk.keyed(5):
        assert torch.equal(y, dk.functional.dropout(w, 0.3))


def test_a_rate_of_one_is_the_pretrained_weight_with_zero_gradient():
    w, w0 = weights(3, 4, dtype=torch.float32)
    w[0] = torch.tensor([math.nan, math.inf, -math.inf, 1e38])
    w.requires_grad_()
    y = mixout(w, w0, 1.0)
    y.sum().backward()
    assert torch.equal(y, w0)
    assert torch.equal(w.grad, torch.zeros_like(w))


def test_what_is_not_mixed_is_returned_as_it_is():
    w, w0 = weights(3, 4)
    state = torch.get_rng_state()
    assert mixout(w, w0, 0.7, False) is w
    assert mixout(w, w0, 0.0) is w
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(dtype):
    w, w0 = weights(50, 40, dtype=dtype)
    with dk.keyed(5):
        y = mixout(w, w0, 0.7)
    with dk.keyed(5):
        single = mixout(w.float(), w0.float(), 0.7)
    assert torch.equal(y, single.to(dtype))
    assert bool((y[single == w0.float()] == w0[single == w0.float()]).all())


@layers
def test_the_module_mixes_weight_and_bias(make, shape):
    module, x = moved(make), torch.randn(shape, dtype=torch.float64)
    with dk.keyed(5):
        y = module(x)
    with dk.keyed(5):
        weight = mixout(module.weight, module.pretrained_weight, 0.7)
        bias = None if module.bias is None else mixout(module.bias, module.pretrained_bias, 0.7)
    assert torch.equal(y, apply_layer(x, weight, bias, module.geometry))
    assert torch.equal(module.eval()(x), apply_layer(x, module.weight, module.bias, module.geometry))


@layers
def test_pretrained_values_are_copies_that_no_optimiser_moves(make, shape):
    layer = make().double()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    module, x = Mixout(layer, 0.5), torch.randn(shape, dtype=torch.float64)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().sum().backward()
        optimizer.step()
    for name, value in before.items():
        assert torch.equal(module.get_buffer(f"pretrained_{name}"), value)
        assert not torch.equal(module.get_parameter(name), value)


@layers
def test_state_and_copies(make, shape):
    module, x = moved(make), torch.randn(shape, dtype=torch.float64)
    names = ["weight"] if module.bias is None else ["weight", "bias"]
    assert list(module.state_dict()) == [*names, *(f"pretrained_{name}" for name in names)]
    fresh = Mixout(make().double(), 0.7)
    fresh.load_state_dict(module.state_dict())
    for other in (fresh, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        with dk.keyed(5):
            y = module(x)
        with dk.keyed(5):
            assert torch.equal(other(x), y)
    assert module.half().pretrained_weight.dtype is torch.float16


def test_a_rate_of_zero_counts_a_use_for_weight_and_bias():
    module, x, follow = moved(LAYERS[0][0]), torch.randn(5, 6, dtype=torch.float64), []
    for p in (0.4, 0.0):
        module.p = p
        with dk.keyed(5):
            module(x)
            follow.append(dk.functional.dropout(torch.ones(100)))
    assert torch.equal(*follow)


def test_compiled_at_any_rate():
    torch.compiler.reset()
    module, graphs = moved(LAYERS[2][0]), []
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend=lambda g, _: graphs.append(g) or g.forward)
    for p, count in ((0.5, 3), (0.1, 4), (0.0, 5), (1.0, 6)):
        module.p = p
        x = torch.randn(count, 4, 5, 6, dtype=torch.float64)
        with dk.keyed(1):
            y = module(x)
        with dk.keyed(1):
            assert torch.allclose(compiled(x), y, rtol=1e-12, atol=1e-12)
    assert len(graphs) == 1


def test_what_is_wrong_is_refused():
    w = torch.ones(2, 3)
    with pytest.raises(dk.InputError, match=r"pretrained values of its shape; got \(3, 2\)"):
        mixout(w, torch.ones(3, 2))
    for training in (True, False):
        with pytest.raises(dk.InputError, match="probability of dropping"):
            mixout(w, w, 1.5, training)
    with pytest.raises(dk.InputError, match=r"nn\.Linear, nn\.Conv1d"):
        Mixout(nn.LayerNorm(3))
