import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.drop_grad import DropGrad, drop_grad


def gradient(module, x, key=1):
    leaf = x.clone().requires_grad_()
    with dk.keyed(key):
        y = module(leaf)
    assert torch.equal(y, x)
    return torch.autograd.grad(y.sum(), leaf)[0]


def test_values_pass_and_gradients_are_masked_and_scaled():
    grad = gradient(DropGrad(0.25), torch.randn(4000))
    assert set(grad.unique().tolist()) == {0.0, float(torch.tensor(4 / 3))}
    bound = math.sqrt(math.log(2 / 1e-6) / (2 * 4000))  # Hoeffding
    assert abs(float((grad == 0).double().mean()) - 0.25) < bound
    assert set(gradient(DropGrad(0.25, rescale=False), torch.randn(4000)).unique().tolist()) == {0.0, 1.0}


def test_the_key_of_the_forward_pass_decides():
    x = torch.randn(200)
    assert torch.equal(gradient(DropGrad(0.5), x), gradient(DropGrad(0.5), x))
    assert not torch.equal(gradient(DropGrad(0.5), x), gradient(DropGrad(0.5), x, key=2))
    a, b = DropGrad(0.5), DropGrad(0.5)
    a.stream, b.stream = "a", "b"
    assert not torch.equal(gradient(a, x), gradient(b, x))


def test_evaluation_and_rate_zero_return_the_input():
    x, state = torch.randn(5), torch.get_rng_state()
    assert DropGrad(0.5).eval()(x) is x
    assert DropGrad(0.0)(x) is x
    assert torch.equal(state, torch.get_rng_state())


def test_generators_and_functions_agree_with_modules():
    x = torch.ones(100, requires_grad=True)
    grads = [torch.autograd.grad(drop_grad(x, 0.5, generator=torch.Generator().manual_seed(3)).sum(), x)[0] for _ in range(2)]
    assert torch.equal(*grads)


def test_rate_one_stops_the_gradient():
    assert bool((gradient(DropGrad(1.0), torch.randn(10)) == 0).all())


def test_hooks_on_parameters_drop_their_gradients_until_removed():
    layer, drop = nn.Linear(50, 40), DropGrad(0.5)
    handles = drop.attach(layer.parameters())
    layer(torch.ones(1, 50)).sum().backward()
    assert set(layer.weight.grad.unique().tolist()) == {0.0, 2.0}
    layer.zero_grad()
    drop.eval()
    layer(torch.ones(1, 50)).sum().backward()
    assert set(layer.weight.grad.unique().tolist()) == {1.0}
    for handle in handles:
        handle.remove()
    layer.zero_grad()
    drop.train()
    layer(torch.ones(1, 50)).sum().backward()
    assert set(layer.weight.grad.unique().tolist()) == {1.0}


def test_integers_are_refused():
    with pytest.raises(dk.InputError, match="floating-point"):
        drop_grad(torch.ones(3, dtype=torch.int64))
