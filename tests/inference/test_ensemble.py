"""Sub-networks one by one: what theory says of one layer holds exactly, and sampling agrees with enumeration."""

import itertools

import pytest
import torch
from torch import nn

import dropkit as dk


def x_of(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(*modules):
    torch.manual_seed(0)
    model = nn.Sequential(*(module() if isinstance(module, type(lambda: 0)) else module for module in modules)).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("scaling", ["inverted", "classic"])
@pytest.mark.parametrize(("output", "classes"), [("softmax", 3), ("sigmoid", 1)])
def test_in_one_layer_weight_scaling_is_the_geometric_mean(output, classes, scaling):
    model = seeded(dk.nn.Dropout(0.3, scaling=scaling), nn.Linear(8, classes))
    found = dk.ensemble(model, x_of(5, 8), samples=1, output=output)
    assert (found.exact, found.networks, found.units) == (True, 256, 8)
    torch.testing.assert_close(found.geometric, found.weight_scaling)
    assert found.differences["arithmetic", "geometric"] > 0.01  # not that all are one


def test_deeper_it_is_not():
    model = seeded(nn.Dropout(0.2), nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    found = dk.ensemble(model, x_of(5, 4), samples=1)
    assert found.units == 10
    assert found.differences["geometric", "weight_scaling"] > 0.001


def test_the_means_are_those_of_the_definition():
    model, x = seeded(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 2)), x_of(6, 3)
    hidden = model[:2](x)
    arithmetic, logarithm = 0.0, 0.0
    for bits in itertools.product((0.0, 1.0), repeat=4):
        mask = torch.tensor(bits, dtype=torch.float64)
        weight = float((mask * 0.7 + (1 - mask) * 0.3).prod())
        p = model[3](hidden * mask / 0.7).softmax(-1)
        arithmetic, logarithm = arithmetic + weight * p, logarithm + weight * p.log()
    found = dk.ensemble(model, x, samples=1)
    geometric = logarithm.exp() / logarithm.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(found.arithmetic, arithmetic.detach())
    torch.testing.assert_close(found.geometric, geometric.detach())
    torch.testing.assert_close(found.weight_scaling, model.eval()(x).softmax(-1).detach())


@pytest.mark.parametrize("site", [nn.Dropout2d(0.4), dk.nn.DropPath(0.4), dk.nn.Dropout(0.4, share_dims=(2, 3))])
def test_passes_and_samples_converge_to_the_enumeration(site):
    """Probabilities lie in [0, 1]: by Hoeffding, and 2 x 12 numbers, a false alarm is rarer than one in a million."""
    model, x = seeded(nn.Conv2d(1, 3, 2), site, nn.Flatten(), nn.Linear(12, 3)), x_of(4, 1, 3, 3)
    exact, drawn = dk.ensemble(model, x, samples=2000), dk.ensemble(model, x, max_units=0, samples=2000, seed=1)
    bound = (torch.tensor(2 * 24 / 1e-6).log() / (2 * 2000)).sqrt()
    assert (exact.exact, drawn.exact, drawn.networks) == (True, False, 2000)
    assert exact.units == (1 if isinstance(site, dk.nn.DropPath) else 3)
    assert float((exact.monte_carlo - exact.arithmetic).abs().max()) < bound
    assert float((drawn.arithmetic - exact.arithmetic).abs().max()) < bound
    assert torch.equal(dk.ensemble(model, x, samples=20).monte_carlo, dk.ensemble(model, x, samples=20).monte_carlo)


def test_the_model_and_the_random_state_stay():
    model = seeded(nn.Dropout(0.5), nn.Linear(3, 2)).train()
    state = torch.get_rng_state()
    dk.ensemble(model, x_of(2, 3), samples=3)
    assert type(model[0]) is nn.Dropout
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.drop(x))


class Functional(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, self.training)


@pytest.mark.parametrize(("model", "options", "text"), [
    (nn.Sequential(nn.Linear(3, 3)), {}, "rate above 0"), (nn.Sequential(nn.AlphaDropout(0.1)), {}, "alpha_dropout at '0'"),
    (Twice(), {}, "used twice"), (Functional(), {}, "dropout at ':dropout'"), (nn.Dropout(), {"output": "x"}, "softmax"),
    (nn.Dropout(), {"max_units": 30}, "at most 20"), (nn.Dropout(), {"samples": 0}, "at least one")])
def test_what_has_no_known_sub_networks_is_refused(model, options, text):
    with pytest.raises(dk.InputError, match=text):
        dk.ensemble(model, torch.ones(2, 3), **options)


class Chosen(nn.Module):
    def forward(self, x):
        return x.argmax(-1)


@pytest.mark.parametrize(("model", "x", "options", "text"), [
    (nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1), nn.Flatten(0)), torch.ones(2, 4), {}, r'shape \(2,\).*output="sigmoid"'),
    (nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)), torch.ones(2, 4), {}, r"two classes at least.*shape \(2, 1\)"),
    (nn.Sequential(nn.Dropout(0.5), Chosen()), torch.ones(2, 4), {}, "got a tensor of torch.int64"),
    (nn.Dropout(0.5), None, {}, "on inputs; got None"), (nn.Dropout(0.5), torch.ones(2, 4), {"seed": "a"}, "a seed is"),
])
def test_what_holds_no_logits_is_refused(model, x, options, text):
    with pytest.raises(dk.InputError, match=text):
        dk.ensemble(model, x, **options)


def test_single_logits_stand_alone_in_a_logistic_layer():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
    found = dk.ensemble(model, torch.ones(2, 4), output="sigmoid", samples=5)
    torch.testing.assert_close(found.weight_scaling, torch.sigmoid(model.eval()(torch.ones(2, 4)).double()))
