"""Arms set the rates that they name, on any builder."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.arms import ARGUMENT, build_arm, make_arms


def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.4), nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 3))


class Functional(nn.Module):
    def __init__(self, p=0.3):
        super().__init__()
        self.p, self.linear = p, nn.Linear(4, 3)

    def forward(self, x):
        return F.dropout(self.linear(x), self.p, self.training)


def rates(arm):
    return {site.name: site.p for site in arm.sites}


def test_default_arms_scale_the_intended_rates():
    arms = make_arms(dk.Experiment(data="iris", model=build), build, None)
    assert [arm.name for arm in arms] == ["none", "reduced", "intended"]
    assert [rates(arm) for arm in arms] == [{"1": 0.0, "3": 0.0}, {"1": 0.2, "3": 0.1}, {"1": 0.4, "3": 0.2}]


def test_one_rate_for_all_sites():
    arms = make_arms(dk.Experiment(data="iris", model=build, rate=0.6), build, None)
    assert rates(arms[2]) == {"1": 0.6, "3": 0.6}
    assert rates(arms[1]) == {"1": 0.3, "3": 0.3}


def test_globs_change_some_sites_and_leave_the_others_as_intended():
    arms = make_arms(dk.Experiment(data="iris", model=build), build, {"none": 0.0, "first": {"1": 0.9}})
    assert rates(arms[1]) == {"1": 0.9, "3": 0.2}


def test_builder_arguments_are_rates():
    experiment = dk.Experiment(data="iris", model=Functional, rates={"p": 0.3})
    arms = make_arms(experiment, Functional, None)
    assert [rates(arm) for arm in arms] == [{"p": 0.0}, {"p": 0.15}, {"p": 0.3}]
    assert arms[0].sites[0].kind == ARGUMENT
    assert build_arm(experiment, Functional, arms[1]).p == 0.15


def test_arms_start_from_the_same_weights_and_carry_their_rates():
    experiment = dk.Experiment(data="iris", model=build)
    models = [build_arm(experiment, build, arm, seed=3) for arm in make_arms(experiment, build, None)]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], state[name]) for state in states for name in states[0])
    assert [model[1].p for model in models] == [0.0, 0.2, 0.4]
    assert all(isinstance(model[1], dk.nn.Dropout) for model in models)


@pytest.mark.parametrize(("builder", "specs", "words"), [
    (lambda: nn.Linear(4, 3), None, "no dropout module was found"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.0)), None, "a rate of 0 at every site"),
    (build, {"none": 0.0}, "at least two arms"),
    (build, ["none", "none"], "at least two arms"),
    (build, ["none", "reducd"], "Did you mean 'reduced'?"),
    (build, {"none": 0.0, "more": 3.0}, "the factor of arm 'more' keeps every rate at or below 1; got 3 times the intended "
                                        "rate 0.4 of '1', which is 1.2. Use a factor of at most 2.5."),
    (build, "none,factor=5", "the factor of arm 'factor=5'"),
    (build, "none,rate=1.5", "the rate of '*' in arm 'rate=1.5' is a probability of dropping"),
    (build, {"none": 0.0, 3: 1.0}, "an arm's name is text"),
    (build, {"none": 0.0, "less": -1.0}, "factor of at least 0"),
    (build, {"none": 0.0, "odd": {"nowhere": 0.5}}, "nowhere"),
    (lambda: 3, None, "got int"),
    (lambda: nn.Dropout(1.5), None, "dropout probability"),
])
def test_what_cannot_be_an_arm_is_refused(builder, specs, words):
    with pytest.raises(InputError) as caught:
        make_arms(dk.Experiment(data="iris", model=builder), builder, specs)
    assert words in str(caught.value)


@pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning", "ignore:a recurrent module of one:UserWarning")
def test_the_rate_of_a_recurrent_module_of_one_layer_does_nothing_and_that_is_said():
    def recurrent():
        return nn.Sequential(nn.LSTM(4, 3, num_layers=1, dropout=0.5))

    with pytest.raises(InputError, match="acts between its layers; got one layer in '0', where it does nothing") as caught:
        make_arms(dk.Experiment(data="iris", model=recurrent), recurrent, None)
    assert "num_layers=2 or more" in str(caught.value)
