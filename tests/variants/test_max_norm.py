import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import dropkit as dk
from dropkit.variants.drop_connect import DropConnect
from dropkit.variants.max_norm import MaxNorm, max_norm_
from dropkit.variants.weight_drop import WeightDrop

EPS = 4 * torch.finfo(torch.float32).eps


def grown(module, factor=20.0):
    """The module with weights far beyond any bound."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return module


@pytest.mark.parametrize("shape", [(6, 10), (5, 4, 3), (5, 2, 3, 3), (4, 2, 2, 2, 3)])
def test_long_units_are_scaled_to_the_bound_and_others_not_touched(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape) * torch.linspace(0.1, 4, shape[0]).view(-1, *[1] * (len(shape) - 1))
    before, data = weight.clone(), weight.data_ptr()
    norms = before.flatten(1).norm(dim=1)
    assert max_norm_(weight, 2.0) is weight
    assert weight.data_ptr() == data
    long = norms > 2.0
    assert 0 < int(long.sum()) < shape[0]
    assert torch.equal(weight[~long], before[~long])
    after = weight.flatten(1).norm(dim=1)
    assert torch.allclose(after[long], torch.full_like(after[long], 2.0), rtol=EPS, atol=0)
    for unit, old, norm in zip(weight[long], before[long], norms[long], strict=True):  # the direction stays
        assert torch.allclose(unit, old * (2.0 / norm), rtol=EPS, atol=0)


def test_zeros_stay_and_nothing_is_not_a_number():
    weight = torch.tensor([[0.0, 0.0], [30.0, 40.0]])
    assert torch.allclose(max_norm_(weight, 5.0), torch.tensor([[0.0, 0.0], [3.0, 4.0]]), rtol=EPS, atol=0)
    assert max_norm_(torch.empty(0, 3)).shape == (0, 3)
    assert max_norm_(torch.empty(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_low_precision_are_single(dtype):  # in float16 this norm would be infinite, and the weights 0
    weight = torch.full((1, 16), 30000.0, dtype=dtype)
    assert torch.equal(max_norm_(weight, 4.0), torch.ones(1, 16, dtype=dtype))


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_units_of_transposed_convolutions(kind, groups):
    # Found from the outputs themselves: the derivative of unit o's sum in the weights marks the weights into o.
    torch.manual_seed(0)
    layer = grown(kind(4, 6, 2, groups=groups, bias=False))
    rank = int(kind.__name__[-2])
    before = layer.weight.detach().clone()
    y = layer(torch.ones(1, 4, *[3] * rank))
    marks = [torch.autograd.grad(y[0, unit].sum(), layer.weight, retain_graph=True)[0] != 0 for unit in range(6)]
    MaxNorm(layer, 1.0)()
    for mark in marks:
        assert int(mark.sum()) == 4 // groups * 2**rank
        norm = before[mark].norm()
        assert norm > 1.0
        assert torch.allclose(layer.weight[mark], before[mark] / norm, rtol=2 * EPS, atol=0)


def test_which_layers_are_bound():
    lstm = nn.LSTM(3, 3)
    model = nn.ModuleDict({
        "linear": nn.Linear(4, 3), "conv": nn.Conv2d(2, 3, 3, groups=1), "adopted": DropConnect(nn.Linear(4, 3)),
        "wrapped": WeightDrop(nn.Linear(4, 3), names="weight"), "norm": nn.LayerNorm((3, 3)), "batch": nn.BatchNorm2d(3),
        "table": nn.Embedding(5, 3), "computed": weight_norm(nn.Linear(4, 3)), "lstm": lstm})
    grown(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    MaxNorm(model, 0.5)()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"linear.weight", "conv.weight", "adopted.weight", "wrapped.weight"}


def test_where_names_modules():
    model = grown(nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    MaxNorm(model, 0.5, where="1.*")()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.0.weight", "1.1.weight"}


def test_shared_weights_are_bound_once():
    model = grown(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    model[1].weight = model[0].weight
    version = model[0].weight._version
    MaxNorm(model, 1.0)()
    assert model[0].weight._version == version + 1


def test_after_every_step_of_the_optimiser_until_removed():
    torch.manual_seed(0)
    model, x = grown(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))), torch.randn(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    handle = MaxNorm(model, 1.5).attach(optimizer)

    def step():
        optimizer.zero_grad()
        (-model(x).square().mean()).backward()  # pushes the weights outwards
        optimizer.step()
        return max(float(layer.weight.detach().norm(dim=1).max()) for layer in (model[0], model[2]))

    assert all(step() <= 1.5 * (1 + EPS) for _ in range(5))
    handle.remove()
    assert step() > 1.5 * (1 + EPS)


def test_parameters_stay_parameters_and_autograd_notices():
    layer = grown(nn.Linear(4, 3))
    weight = layer.weight
    MaxNorm(layer, 1.0)()
    assert layer.weight is weight
    assert weight.requires_grad
    assert weight.grad_fn is None
    loss = (weight**2).sum()  # saved for the backward pass, then changed
    grown(layer)
    MaxNorm(layer, 1.0)()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_channels_last_weights():
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3)
    other = weight.clone().to(memory_format=torch.channels_last)
    assert torch.allclose(max_norm_(other, 1.0), max_norm_(weight, 1.0), rtol=EPS, atol=0)
    assert other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("c", [0, -1.0, math.inf, math.nan, True, "3", None])
def test_wrong_bounds_are_refused(c):
    with pytest.raises(dk.InputError, match="c is a norm, a number above 0"):
        max_norm_(torch.ones(2, 2), c)
    with pytest.raises(dk.InputError, match="c is a norm"):
        MaxNorm(nn.Linear(2, 2), c)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_vectors_are_refused(shape):
    with pytest.raises(dk.InputError, match="dimensions of outputs and inputs; got"):
        max_norm_(torch.ones(shape))


@pytest.mark.parametrize(("model", "where"), [(nn.ReLU(), "*"), (nn.Sequential(nn.Linear(2, 2)), "head*")])
def test_a_model_without_such_layers_is_refused(model, where):
    with pytest.raises(dk.InputError, match="linear layers or convolutions that match; got"):
        MaxNorm(model, where=where)


def test_it_bounds_a_model_and_follows_an_optimiser():
    with pytest.raises(dk.InputError, match="weights of a model; got 'a'"):
        MaxNorm("a")
    with pytest.raises(dk.InputError, match="steps of a torch optimiser; got 'a'"):
        MaxNorm(nn.Linear(2, 2)).attach("a")
