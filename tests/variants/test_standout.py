import math

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.variants.standout import Standout, standout

FALSE_ALARM = 1e-6


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-0.5, 1.0), (0.0, -1.0)])
def test_units_are_kept_with_the_probability_of_their_activation(alpha, beta):
    z = torch.tensor([-4.0, -1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    n = 40_000
    torch.manual_seed(0)
    kept = standout(z.expand(n, 5), alpha, beta, activation=torch.ones_like).mean(0)
    bound = math.sqrt(math.log(2 * len(z) / FALSE_ALARM) / (2 * n))  # Hoeffding, for all five
    assert float((kept - torch.sigmoid(alpha * z + beta)).abs().max()) < bound


def test_training_is_zero_or_the_activation():
    z = torch.randn(1000)
    y = standout(z, activation=torch.tanh)
    assert bool(((y == 0) | (y == torch.tanh(z))).all())  # no rescaling
    assert 0 < int((y == 0).sum()) < 1000


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_evaluation_is_the_expectation(dtype):
    z = torch.randn(1000, dtype=dtype)
    y = standout(z, 2.0, 0.5, training=False, activation=torch.relu)
    wide = torch.promote_types(dtype, torch.float32)
    keep = torch.sigmoid(2 * z.to(wide) + 0.5)
    assert y.dtype is dtype
    assert torch.equal(y, (torch.relu(z).to(wide) * keep).to(dtype))  # rounded once


def test_certain_decisions():
    z = torch.tensor([200.0, -200.0]).expand(1000, 2)
    assert torch.equal(standout(z), torch.tensor([200.0, 0.0]).expand(1000, 2))
    assert torch.equal(standout(z, training=False), torch.tensor([200.0, -0.0]).expand(1000, 2))


def test_the_choice_of_the_mask_is_not_differentiated():
    z = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    y = standout(z, activation=torch.tanh)
    y.sum().backward()
    expected = torch.where(y == 0, 0.0, 1 - torch.tanh(z) ** 2)
    assert torch.allclose(z.grad, expected.detach(), rtol=1e-12, atol=0)


def test_evaluation_is_differentiated_as_it_stands():
    z = torch.randn(20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: standout(v, 0.7, 0.2, training=False, activation=torch.tanh), z)


@pytest.mark.parametrize("training", [True, False])
def test_an_activation_may_work_in_place(training):
    # nn.ReLU(inplace=True) overwrites what the probability is computed from: at z < 0 it would become 1/2.
    z = torch.randn(1000)
    results = []
    for inplace in (False, True):
        module = Standout(activation=nn.ReLU(inplace)).train(training)
        base = z.clone().requires_grad_()
        with dk.keyed(1):
            y = module(base * 1)
        y.sum().backward()
        results.append((y, base.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_dropped_infinities_become_zero_and_nan_shows():
    y = standout(torch.zeros(1000), activation=lambda z: torch.full_like(z, math.inf))
    assert set(y.tolist()) == {0.0, math.inf}
    assert bool(standout(torch.full((50,), math.nan)).isnan().all())


def test_one_use_a_call_and_none_in_evaluation():
    z = torch.randn(100)
    with dk.keyed(1):
        standout(z)
        second = standout(z)
    with dk.keyed(1):
        standout(z, training=False)
        dk.functional.dropout(z, 0.0)
        assert torch.equal(standout(z), second)


def test_it_follows_a_layer_and_has_no_state():
    network = nn.Sequential(nn.Linear(5, 300), Standout(beta=-1.0, activation=nn.ReLU()))
    assert list(network.state_dict()) == ["0.weight", "0.bias"]
    x = torch.randn(4, 5)
    z = network[0](x)
    assert torch.equal(network.eval()(x), torch.relu(z) * torch.sigmoid(z - 1))
    torch.manual_seed(0)
    y = network.train()(x)
    torch.manual_seed(0)
    assert torch.equal(y, standout(z, 1.0, -1.0, activation=torch.relu))


def test_repr():
    assert repr(Standout(2, -1)) == "Standout(alpha=2.0, beta=-1.0)"
    assert "activation=<built-in method relu" in repr(Standout(activation=torch.relu))


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", None, True])
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_wrong_numbers_are_refused(name, bad):
    for attempt in (lambda: Standout(**{name: bad}), lambda: standout(torch.ones(3), **{name: bad})):
        with pytest.raises(dk.InputError, match=f"{name} is a finite number"):
            attempt()


@pytest.mark.parametrize("training", [True, False])
def test_wrong_data_is_refused(training):
    with pytest.raises(dk.InputError, match="floating-point data"):
        standout(torch.ones(3, dtype=torch.int64), training=training)
    with pytest.raises(dk.InputError, match=r"keeps the shape of its input; got \(2,\)"):
        standout(torch.ones(4), training=training, activation=nn.GLU())


def test_an_activation_can_be_called():
    with pytest.raises(dk.InputError, match="an activation is a module or a function; got 3"):
        Standout(activation=3)
