"""Randomness that dropkit does not know: never silently left out, never taken for dropout."""

import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.inference.strangers import strangers

sys.path.insert(0, str(Path(__file__).parent))
from mc_nets import CASES, Reparametrised, mlp, noise
from mc_nets import Path as StochasticDepth

X = noise(4, 8)


class Quiet(Reparametrised):
    """The same without its noise."""

    def forward(self, x):
        return self.body(x)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), StochasticDepth(0.5), nn.Linear(8, 8), nn.Dropout(0.3)).eval()


def test_an_unknown_module_is_named_and_does_not_act():
    with pytest.warns(UserWarning, match="at '1'.* These do not act"):
        found = dk.mc_predict(net(), X, 6, samples=True)
    assert found.sites == ("3",)
    without = net()
    without[1] = nn.Identity()
    torch.testing.assert_close(found.samples, dk.mc_predict(without, X, 6, samples=True).samples)


@pytest.mark.parametrize("where", [["*", "random"], ["1", "3"], ["*", "kind:random"]])
def test_it_acts_when_it_is_asked_to(where):
    found = dk.mc_predict(net(), X, 400, samples=True, where=where)
    assert set(found.sites) == {"1", "3"}
    assert (found.method, found.why) == ("loop", "something in the model draws from a generator of its own")
    torch.testing.assert_close(dk.mc_predict(net(), X, [17], samples=True, where=where).samples[0], found.samples[17])
    alone = dk.mc_predict(net(), X, 400, samples=True, where="1").samples
    shapes = alone[:, 0].unique(dim=0)
    assert len(shapes) == 2  # the branch of an example is there or not
    dropped = float((alone[:, 0] == alone[0, 0]).all(1).double().mean())
    assert abs(dropped - 0.5) < 0.11  # 4.4 standard deviations of a share of 400 at 0.5; false alarm 10^-5


def test_who_names_the_sites_is_not_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dk.mc_predict(net(), X, 4, where=["*"]).sites == ("3",)
        assert dk.mc_predict(net(), X, 4, where="3").sites == ("3",)


@pytest.mark.parametrize("draw", [lambda: float(np.random.rand()), random.random], ids=["numpy", "python"])
def test_draws_from_other_generators_follow_the_pass(draw):
    class Shaken(nn.Module):
        def forward(self, x):
            return x * (1 + draw())

    model = nn.Sequential(nn.Dropout(0.5), Shaken())
    found = dk.mc_predict(model, torch.ones(2, 50), 4, samples=True)
    assert (found.method, found.why) == ("loop", "something in the model draws from a generator of its own")
    scales = found.samples.amax((1, 2))
    assert len(scales.unique()) == 4
    assert torch.equal(dk.mc_predict(model, torch.ones(2, 50), [2], samples=True).samples[0], found.samples[2])


def test_noise_that_is_no_dropout_stays_off():
    torch.manual_seed(0)
    model = Reparametrised().eval()
    with pytest.warns(UserWarning, match="draws random numbers in training"):
        found = dk.mc_predict(model, X, 6, samples=True)
    torch.manual_seed(0)
    again = Quiet().eval()
    torch.testing.assert_close(found.samples, dk.mc_predict(again, X, 6, samples=True).samples)


def test_a_model_with_nothing_else_is_an_error_that_names_it():
    model = nn.Sequential(nn.Linear(8, 8), StochasticDepth(0.5)).eval()
    with pytest.warns(UserWarning, match="at '1'"), pytest.raises(dk.InputError, match="at least one site acts"):
        dk.mc_predict(model, X, 6)
    assert dk.mc_predict(model, X, 20, where="random").sites == ("1",)


def test_a_rate_is_not_set_on_what_has_none_that_is_known():
    with pytest.raises(dk.InputError, match="matches a site"):
        dk.mc_predict(net(), X, 4, where=["*", "random"], rates={"1": 0.2})
    found = dk.mc_predict(net(), X, 4, where=["*", "random"], rates=0.2)  # of the known ones
    assert set(found.sites) == {"1", "3"}


@pytest.mark.parametrize("name", [name for name in CASES])
def test_known_sites_are_no_strangers(name):
    torch.manual_seed(0)
    make, x, _ = CASES[name]
    assert strangers(make().eval(), x) == {}


def test_what_draws_in_evaluation_too_is_left_as_it_is():
    class Always(nn.Module):
        def forward(self, x):
            return x + 0.1 * torch.randn_like(x)

    assert strangers(nn.Sequential(Always(), mlp()), X) == {}


def test_a_model_that_raises_in_training_has_those_that_were_seen():
    class Raises(nn.Module):
        def forward(self, x):
            if self.training:
                raise RuntimeError("not in training")
            return x

    assert list(strangers(nn.Sequential(StochasticDepth(0.3), Raises()), X)) == ["0"]
