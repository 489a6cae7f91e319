import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
import nets


def rates(model):
    return {site.name: site.p for site in dk.sites(model)}


@pytest.mark.parametrize("name", nets.CASES)
def test_one_rate_for_all_and_back(name):
    model = nets.CASES[name][0]()
    before = rates(model)
    previous = dk.set_rate(model, 0.25)
    assert previous == before
    assert set(rates(model).values()) == {0.25}
    dk.set_rate(model, previous)
    assert rates(model) == before


def test_globs_match_dotted_names():
    model = nets.encoder()
    dk.set_rate(model, {"layers.0.*": 0.3, "*.self_attn": 0.4, "layers.[1].dropout?": 0.5})
    assert rates(model) == {
        "layers.0.self_attn": 0.4, "layers.0.dropout": 0.3, "layers.0.dropout1": 0.3, "layers.0.dropout2": 0.3,
        "layers.1.self_attn": 0.4, "layers.1.dropout": 0.1, "layers.1.dropout1": 0.5, "layers.1.dropout2": 0.5}


def test_later_globs_override_and_names_win():
    model = nets.mixed()
    previous = dk.set_rate(model, {"3": 0.9, "*": 0.1, "[45]": 0.2})
    assert rates(model) == {"1": 0.1, "3": 0.9, "4": 0.2, "5": 0.2}
    assert previous == {"1": 0.1, "3": 0.2, "4": 0.3, "5": 0.4}


def test_only_changed_sites_are_returned():
    assert dk.set_rate(nets.mixed(), {"3": 0.9}) == {"3": 0.2}


def test_names_with_glob_characters_restore_exactly():
    model = nn.ModuleDict({"[ab]": nn.Dropout(0.1), "a": nn.Dropout(0.2), "*": nn.Dropout(0.3)})
    previous = dk.set_rate(model, 0.5)
    dk.set_rate(model, previous)
    assert rates(model) == {"[ab]": 0.1, "a": 0.2, "*": 0.3}


def test_case_matters():
    with pytest.raises(dk.InputError, match="matches"):
        dk.set_rate(nn.ModuleDict({"Head": nn.Dropout()}), {"head": 0.1})


def test_the_root_is_named_by_nothing():
    module = nn.Dropout(0.5)
    assert dk.set_rate(module, {"": 0.1}) == {"": 0.5}
    assert module.p == 0.1


def test_an_unmatched_pattern_changes_nothing_and_names_the_nearest():
    model = nets.encoder()
    before = rates(model)
    with pytest.raises(dk.InputError, match=r"got 'layer\.0\.dropout1'\. The nearest sites are 'layers\.0\.dropout1'"):
        dk.set_rate(model, {"*": 0.7, "layer.0.dropout1": 0.3})
    assert rates(model) == before


@pytest.mark.parametrize("bad", [1.5, "0.5", None, {"1": 0.3, "3": 2.0}, {"1": True}, {1: 0.5}])
def test_wrong_rates_change_nothing(bad):
    model = nets.mixed()
    before = rates(model)
    with pytest.raises(dk.InputError):
        dk.set_rate(model, bad)
    assert rates(model) == before


@pytest.mark.parametrize("rate", [0.5, {"*": 0.5}])
def test_a_model_without_sites_is_refused(rate):
    with pytest.raises(dk.InputError, match=r"has dropout modules; got Linear\."):
        dk.set_rate(nn.Linear(2, 2), rate)


@pytest.mark.parametrize("name", ["lstm", "encoder"])
def test_rates_inside_torch_modules_take_effect(name):
    build, x = nets.CASES[name]
    model = build()
    dk.set_rate(model, 0.0)
    assert torch.equal(model(x), model(x))
    dk.set_rate(model, {"rnn" if name == "lstm" else "*.self_attn": 0.9})
    assert not torch.equal(model(x), model(x))


def test_a_compiled_model_follows():
    model = dk.swap(nn.Sequential(nn.Dropout(0.5)))
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    compiled(torch.ones(4))
    dk.set_rate(compiled, {"0": 1.0})
    assert torch.equal(compiled(torch.ones(4)), torch.zeros(4))
    dk.set_rate(compiled, 0.0)
    assert torch.equal(compiled(torch.ones(4)), torch.ones(4))
