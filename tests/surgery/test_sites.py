import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
import nets


def table(model):
    return [(site.name, site.kind, site.p) for site in dk.sites(model)]


def test_kinds_names_and_rates():
    assert table(nets.mixed()) == [
        ("1", "dropout", 0.1), ("3", "alpha_dropout", 0.2), ("4", "dropout1d", 0.3), ("5", "dropout", 0.4)]
    assert table(nets.Tagger()) == [("rnn", "recurrent", 0.3), ("drop", "dropout", 0.2)]
    assert table(nn.FeatureAlphaDropout(0.1)) == [("", "feature_alpha_dropout", 0.1)]


def test_dropkit_modules_have_the_kinds_of_their_twins():
    for row in dk.catalog():
        if row.claims.holds_sites:
            continue
        site = dk.sites(row.trial.make(0.3))[0]
        assert (site.name, site.kind) == ("", row.name)
        assert row.claims.rate is None or site.p == pytest.approx(0.3, abs=1e-7)  # a learned one is a float32 logit
        if row.torch_twin is not None:
            assert table(row.torch_twin(0.3)) == [("", row.name, 0.3)]


def test_modules_that_hold_sites_are_none_and_list_their_children():
    rows = [row for row in dk.catalog() if row.claims.holds_sites]
    assert rows
    for row in rows:
        found = dk.sites(row.trial.make(0.3))
        assert all("." not in site.name and site.name for site in found)
        assert [site.p for site in found].count(0.3) == 1
        assert sum(site.active for site in found) == 1


def test_other_dropouts_are_custom():
    class Odd(_DropoutNd):
        def forward(self, input):
            return input

    assert table(Odd(0.7)) == [("", "custom", 0.7)]


def test_transformers_show_attention():
    found = table(nets.encoder())
    assert found[:4] == [("layers.0.self_attn", "attention", 0.1), ("layers.0.dropout", "dropout", 0.1),
                         ("layers.0.dropout1", "dropout", 0.1), ("layers.0.dropout2", "dropout", 0.1)]
    assert len(found) == 8


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_one_recurrent_layer_never_drops_and_is_no_site(kind):
    assert table(kind(2, 2)) == []
    assert table(kind(2, 2, num_layers=2)) == [("", "recurrent", 0.0)]


def test_active_means_training_and_a_rate_above_zero():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout(0.5).eval())
    assert [site.active for site in dk.sites(model)] == [True, False, False]
    assert not any(site.active for site in dk.sites(model.eval()))


def test_shared_modules_appear_once_under_their_first_name():
    model = nets.Shared()
    assert [site.name for site in dk.sites(model)] == ["drop"]
    assert dk.sites(model)[0].module is model.drop


def test_no_sites():
    assert dk.sites(nn.Linear(2, 2)) == []
    assert dk.format_sites([]) == "no dropout modules"


def compiled(model):
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled, lambda model: compiled(nn.DataParallel(model))])
def test_wrappers_do_not_show(wrap):
    model = nets.encoder()
    assert table(wrap(model)) == table(model)
    assert [site.module for site in dk.sites(wrap(model))] == [site.module for site in dk.sites(model)]


def test_a_compiled_part_does_not_show():
    model = nets.mixed()
    names = table(model)
    model[1] = torch.compile(model[1], backend="eager")
    assert table(model) == names


def test_order_is_that_of_named_modules():
    model = nets.encoder()
    order = [name for name, _ in model.named_modules()]
    assert [site.name for site in dk.sites(model)] == sorted((site.name for site in dk.sites(model)), key=order.index)


@pytest.mark.parametrize("bad", [None, nn.Dropout, [nn.Dropout()]])
def test_a_model_is_a_module(bad):
    with pytest.raises(dk.InputError, match=r"a model is a torch\.nn\.Module"):
        dk.sites(bad)


def test_the_table_is_plain_text():
    assert dk.format_sites(dk.sites(nets.Tagger())) == (
        "name  kind       p    active\n"
        "rnn   recurrent  0.3  yes\n"
        "drop  dropout    0.2  yes")
    assert "(model)  dropout" in dk.format_sites(dk.sites(nn.Dropout()))
