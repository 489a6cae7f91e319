import math
import threading

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


class Twins(nn.Module):
    """Two parameters of one shape, so that equal masks would show."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.ones(200)) for _ in range(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x):
        return (self.a * x).sum() + (self.b * x).sum()


def gradients(net, key=1, step=0, inside=True):
    """Gradients of a keyed pass, with the backward pass inside the context, after it, or in another thread."""
    net.zero_grad()
    with dk.keyed(key, step):
        loss = net(torch.ones(200))
        if inside is True:
            loss.backward()
    if inside is None:
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
    elif not inside:
        loss.backward()
    return net.a.grad.clone(), net.b.grad.clone()


def test_a_module_s_gradients_are_masked_by_the_key_of_its_forward_pass():
    net = Twins()
    DropGrad(0.5).attach(net)
    a, b = gradients(net)
    assert set(a.tolist()) == {0.0, 2.0}
    assert not torch.equal(a, b)  # parameters have masks of their own: equal with a chance of 2^-200
    for inside in (True, False, None):  # accelerators run the backward pass in threads that know no key
        assert all(map(torch.equal, gradients(net, inside=inside), (a, b)))
    for other in (gradients(net, 2), gradients(net, 1, 1)):
        assert not torch.equal(other[0], a)


def test_streams_and_uses_tell_attached_modules_apart():
    found = []
    for name in ("x", "y", "x"):
        net, drop = Twins(), DropGrad(0.5)
        drop.stream = name
        drop.attach(net)
        found.append(gradients(net)[0])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    after = []
    for p in (0.0, 0.5):  # rate 0 counts as a use
        net = Twins()
        DropGrad(p).attach(net)
        with dk.keyed(3):
            net(torch.ones(200))
            after.append(dk.functional.dropout(torch.ones(100)))
    assert torch.equal(*after)


def test_attaching_follows_mode_rate_and_handles():
    net, drop = Twins(), DropGrad(0.5, rescale=False)
    handles = drop.attach(net)
    assert set(gradients(net)[0].tolist()) == {0.0, 1.0}
    drop.eval()
    assert set(gradients(net)[0].tolist()) == {1.0}
    drop.train()
    drop.p = 1.0
    assert set(gradients(net)[0].tolist()) == {0.0}
    drop.p = 0.0
    assert set(gradients(net)[0].tolist()) == {1.0}
    drop.p = 0.5
    for handle in handles:
        handle.remove()
    assert set(gradients(net)[0].tolist()) == {1.0}


@pytest.mark.parametrize("keyed", [False, True])
def test_single_parameters_draw_from_the_generator_keyed_or_not(keyed):
    # A hook runs in the backward pass, where a site that asks for its key is taken for a checkpoint without one.
    net, found = Twins(), []
    DropGrad(0.5).attach([net.a])
    for _ in range(2):
        torch.manual_seed(4)
        if keyed:
            found.append(gradients(net))
        else:
            net.zero_grad()
            net(torch.ones(200)).backward()
            found.append((net.a.grad.clone(), net.b.grad.clone()))
    assert torch.equal(found[0][0], found[1][0])
    assert set(found[0][0].tolist()) == {0.0, 2.0}
    assert set(found[0][1].tolist()) == {1.0}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_dropped_gradient_is_zero_even_where_it_was_not_finite(value):
    x = torch.zeros(200, requires_grad=True)
    drop_grad(x, 0.5).backward(torch.full((200,), value))
    gone = x.grad == 0
    assert 0 < int(gone.sum()) < 200
    assert not x.grad[~gone].isfinite().any()


def test_second_derivatives_are_masked_by_the_same_mask():
    x = torch.randn(100, dtype=torch.float64, requires_grad=True)
    with dk.keyed(2):
        y = drop_grad(x, 0.5)
    mask = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    first = torch.autograd.grad((y**3).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    assert torch.equal(first.detach(), mask * 3 * x.detach() ** 2)
    assert torch.allclose(second, mask * mask * 6 * x.detach(), rtol=1e-12, atol=0.0)


# Raised by the compiler itself as it traces an autograd function.
@pytest.mark.filterwarnings("ignore:<class 'torch.autograd.function.Function'> should not be instantiated:DeprecationWarning")
def test_compiled_gradients_are_those_of_eager_code_at_any_rate():
    torch.compiler.reset()
    module = DropGrad(0.5)
    compiled, x = torch.compile(module, backend="aot_eager", fullgraph=True), torch.randn(100, requires_grad=True)
    for p in (0.5, 0.25, 0.0, 1.0):
        module.p = p
        found = []
        for call in (module, compiled):
            torch.manual_seed(3)
            y = call(x)
            torch.manual_seed(4)  # the seed is drawn in the forward pass, whatever happens before the backward pass
            found.append(torch.autograd.grad(y.sum(), x)[0])
        assert torch.equal(*found)


def test_vmap_gives_examples_masks_of_their_own_or_one_for_all():
    x = torch.ones(3, 100)
    for randomness, alike in (("same", True), ("different", False)):
        grads = torch.vmap(torch.func.grad(lambda v: drop_grad(v, 0.5).sum()), randomness=randomness)(x)
        assert set(grads.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(grads[0], grads[1]) is alike


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_types_share_masks(dtype):
    x = torch.randn(200)
    assert torch.equal(gradient(DropGrad(0.5), x.to(dtype)).float(), gradient(DropGrad(0.5), x))


def test_wrong_rates_are_refused_and_settings_show():
    with pytest.raises(dk.InputError, match="probability"):
        drop_grad(torch.ones(2), 1.5, training=False)
    with pytest.raises(dk.InputError, match="probability"):
        DropGrad(-0.1)
    assert repr(DropGrad(0.2, rescale=False)) == "DropGrad(p=0.2, rescale=False)"
