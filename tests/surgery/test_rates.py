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


X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_functional_calls_are_set_once_they_are_found():
    model = dk.swap(nets.calls(), inputs=X)
    before = rates(model)
    previous = dk.set_rate(model, {"*:dropout": 0.9, "2:scaled_dot_product_attention": 0.0})
    assert previous == {"0:dropout": 0.3, "2:dropout": 0.6, "2:scaled_dot_product_attention": 0.4}
    assert rates(model) == {**before, "0:dropout": 0.9, "2:dropout": 0.9, "2:scaled_dot_product_attention": 0.0}
    dk.set_rate(model, previous)
    assert rates(model) == before


def test_rates_of_calls_take_effect():
    model = dk.swap(nn.Sequential(nets.Calls()), inputs=X)
    dk.set_rate(model, 0.0)
    assert torch.equal(model(X), model(X))
    dk.set_rate(model, {"0:dropout#1": 1.0, "0:alpha_dropout": 0.0})
    assert not model(X).any()


def test_a_rate_that_was_set_does_not_act_in_evaluation():
    """In evaluation the code passes a rate of 0, or a flag."""
    model = dk.swap(nets.calls(), inputs=X).eval()
    expected = model(X)
    dk.set_rate(model, 0.9)
    assert torch.equal(model(X), expected)


def test_a_rate_that_was_set_acts_wherever_the_call_acts():
    model = dk.swap(nets.Always(), inputs=X).eval()
    dk.set_rate(model, 0.0)
    assert torch.equal(model(X), model(X))


def test_a_rate_above_zero_turns_on_what_the_code_left_off():
    class Off(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.0, self.training)

    model = dk.swap(nn.Sequential(Off()), inputs=X)
    dk.set_rate(model, 1.0)
    assert not model(X).any()
    assert torch.equal(model.eval()(X), X)


def test_set_back_the_codes_own_rate_counts_again():
    model = dk.swap(nn.Sequential(nets.Calls(0.3)), inputs=X)
    previous = dk.set_rate(model, {"0:dropout": 0.9})
    dk.set_rate(model, previous)
    model[0].p = 1.0  # the code passes another rate now
    dk.set_rate(model, {"0:dropout#1": 0.0, "0:scaled*": 0.0, "0:alpha*": 0.0})
    with dk.keyed(0):
        y = model(X)
    model[0].proj.weight.data.add_(1.0)
    with dk.keyed(0):
        assert torch.equal(model(X), y)  # all of the projection is dropped


def test_swapping_again_keeps_the_rates_that_were_set():
    model = dk.swap(nets.calls(), inputs=X)
    dk.set_rate(model, {"0:dropout": 0.9})
    before = rates(model)
    assert rates(dk.swap(model, inputs=X)) == before
    assert rates(dk.swap(model)) == before


@pytest.mark.parametrize("name", ["0:dropout", "0:dropuot"])
def test_calls_that_were_not_looked_for_are_explained(name):
    with pytest.raises(dk.InputError, match=r"once dropkit\.swap\(model, inputs=\.\.\.\) has found them"):
        dk.set_rate(nets.calls(), {name: 0.1})


def test_a_model_with_calls_only_is_told_what_to_do():
    with pytest.raises(dk.InputError, match=r"F\.dropout can be set once dropkit\.swap\(model, inputs=\.\.\.\)"):
        dk.set_rate(nets.Always(), 0.1)


def test_misspelt_calls_have_near_matches():
    with pytest.raises(dk.InputError, match="The nearest sites are '0:dropout'"):
        dk.set_rate(dk.swap(nets.calls(), inputs=X), {"0:dropuot": 0.1})


def test_a_site_that_refuses_a_rate_leaves_all_as_they_were():
    model = nn.Sequential(nn.Dropout(0.5), dk.nn.GaussianDropout(0.2), nn.Dropout(0.3))
    with pytest.raises(dk.InputError, match=r"\[0, 1\)"):
        dk.set_rate(model, 1.0)
    assert [site.p for site in dk.sites(model)] == [0.5, 0.2, 0.3]


def test_a_rate_that_is_learned_is_left_alone():
    learned = dk.nn.ConcreteDropout(nn.Linear(2, 2), 0.25)
    model = nn.Sequential(learned, nn.Dropout(0.5))
    assert dk.set_rate(model, 0.1) == {"1": 0.5}
    assert [round(site.p, 6) for site in dk.sites(model)] == [0.25, 0.1]
