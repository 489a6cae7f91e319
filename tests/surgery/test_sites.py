import copy
import random
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.dropout import _DropoutNd

import dropkit as dk
from dropkit.core import streams
from dropkit.core.intercept import THREAD

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


CALLS = [
    ("0:dropout", "dropout", 0.3), ("0:dropout#1", "dropout", 0.2),
    ("0:scaled_dot_product_attention", "scaled_dot_product_attention", 0.4), ("0:alpha_dropout", "alpha_dropout", 0.1),
    ("1", "dropout", 0.1),
    ("2:dropout", "dropout", 0.6), ("2:dropout#1", "dropout", 0.2),
    ("2:scaled_dot_product_attention", "scaled_dot_product_attention", 0.4), ("2:alpha_dropout", "alpha_dropout", 0.1),
    ("3", "dropout", 0.2), ("4.self_attn", "attention", 0.1), ("4.dropout", "dropout", 0.1), ("4.dropout1", "dropout", 0.1),
    ("4.dropout2", "dropout", 0.1)]
X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def line_of(text):
    lines = Path(nets.__file__).read_text(encoding="utf-8").splitlines()
    return f"nets.py:{next(number for number, line in enumerate(lines, 1) if text in line)}"


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel, compiled])
def test_functional_calls_are_listed_after_their_module(wrap):
    assert [(site.name, site.kind, site.p) for site in dk.sites(wrap(nets.calls()), X)] == CALLS


def test_functional_calls_have_a_place():
    found = {site.name: site for site in dk.sites(nets.calls(), X)}
    assert found["0:dropout"].where == line_of("x = F.dropout(self.proj(x)")
    assert found["0:dropout#1"].where == line_of("x = dk.functional.dropout(self.norm(x)")
    assert found["2:scaled_dot_product_attention"].where == line_of("dropout_p=0.4 if self.training")
    assert found["1"].where is None
    assert found["2:dropout"].module is not found["0:dropout"].module
    assert (found["2:dropout"].call, found["0:dropout#1"].call, found["1"].call) == ("dropout", "dropout#1", None)


@pytest.mark.parametrize("training", [True, False])
def test_active_is_what_the_call_would_do_now(training):
    model = nn.Sequential(nets.Calls(), nets.Always()).train(training)
    assert [site.active for site in dk.sites(model, X)] == [training] * 4 + [True] * 2
    assert [site.always for site in dk.sites(model, X)] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("inputs", [(X,), [X], {"input": X}])
def test_inputs_are_arguments(inputs):
    assert [site.name for site in dk.sites(nets.calls(), inputs)] == [name for name, _, _ in CALLS]


def test_arguments_may_be_given_by_name():
    class Two(nn.Module):
        def forward(self, a, *, b):
            return F.dropout(a + b)

    assert table_of(Two(), {"a": X, "b": X}) == [(":dropout", "dropout", 0.5)]


def table_of(model, inputs):
    return [(site.name, site.kind, site.p) for site in dk.sites(model, inputs)]


def test_all_functions_are_found():
    class All(nn.Module):
        def forward(self, x):
            x = dk.functional.drop_path_add(dk.functional.dropout_add(x, x, 0.1), x, 0.2)
            x = torch.dropout(x, 0.3, self.training) + torch.native_dropout(x, 0.4, self.training)[0]
            x = dk.functional.standout(x, training=self.training)
            F.dropout(x, 0.5, False)
            return F.dropout1d(x[None])[0]

    found = table_of(All(), X)
    assert [name for name, _, _ in found] == [":dropout_add", ":drop_path_add", ":dropout", ":native_dropout", ":standout",
                                             ":dropout#1", ":dropout1d"]
    assert [kind for _, kind, _ in found] == ["dropout", "drop_path", "dropout", "dropout", "standout", "dropout", "dropout1d"]
    assert [site.active for site in dk.sites(All(), X)][-2:] == [False, True]


def test_attention_by_function_is_found_inside():
    class Pool(nn.Module):
        def __init__(self, need_weights):
            super().__init__()
            self.attn, self.need_weights = nn.MultiheadAttention(8, 2), need_weights

        def forward(self, x):
            a = self.attn
            return F.multi_head_attention_forward(
                x, x, x, 8, 2, a.in_proj_weight, a.in_proj_bias, None, None, False, 0.3, a.out_proj.weight, a.out_proj.bias,
                training=self.training, need_weights=self.need_weights)[0]

    x = X[:, None]
    assert table_of(Pool(True), x)[0] == (":dropout", "dropout", 0.3)
    assert table_of(Pool(False), x)[0] == (":scaled_dot_product_attention", "scaled_dot_product_attention", 0.3)


def test_repeated_and_shared_modules_are_listed_once():
    block = nets.Always()
    assert [site.name for site in dk.sites(nn.Sequential(block, block), X)] == ["0:dropout", "0:scaled_dot_product_attention"]


def test_a_forward_that_raises_is_named_and_leaves_no_trace():
    class Bad(nn.Module):
        def forward(self, x):
            raise KeyError("gone")

    model = nn.Sequential(nets.Calls(), Bad())
    before = snapshot(model)
    with pytest.raises(dk.InputError, match=r"here in training; got KeyError: 'gone'\."):
        dk.sites(model, X)
    assert_untouched(model, before)


def snapshot(model):
    return (copy.deepcopy(model.state_dict()), [dict(vars(m)) for m in model.modules()], torch.get_rng_state(),
            random.getstate(), [m.training for m in model.modules()])


def assert_untouched(model, before):
    state, attributes, rng, python_rng, modes = before
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert [dict(vars(m)) for m in model.modules()] == attributes
    assert torch.equal(torch.get_rng_state(), rng)
    assert random.getstate() == python_rng
    assert [m.training for m in model.modules()] == modes
    assert THREAD.interceptor is None
    assert THREAD.watchers == ()
    assert torch.overrides._get_current_function_mode() is None


def test_a_model_is_left_as_it_was():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.count, self.seen, self.total = 0, [], torch.zeros(())

        def forward(self, x):
            self.count += 1
            self.seen.append(x)
            self.total += 1
            self.register_forward_hook(lambda *_: None)
            return x * random.random()

    model = nn.Sequential(Counter(), nets.calls())
    model[1][0].norm.eval()
    model(X).sum().backward()
    grads = [p.grad.clone() for p in model.parameters()]
    x, before = X.clone(), snapshot(model)
    seen, total, hooks = list(model[0].seen), model[0].total.clone(), len(model[0]._forward_hooks)
    dk.sites(model, x)
    assert_untouched(model, before)
    assert all(torch.equal(p.grad, grad) for p, grad in zip(model.parameters(), grads, strict=True))
    assert (len(model[0].seen), model[0].count, len(model[0]._forward_hooks)) == (len(seen), 1, hooks)
    assert torch.equal(model[0].total, total)
    assert torch.equal(x, X)


def test_inputs_are_not_written_into():
    x = torch.ones(4)
    dk.sites(nn.Sequential(nn.Dropout(0.5, inplace=True)), x)
    assert torch.equal(x, torch.ones(4))


def test_keyed_streams_do_not_move():
    x = torch.ones(100)
    with dk.keyed(0):
        expected = dk.functional.dropout(x)
    with dk.keyed(0):
        dk.sites(nn.Sequential(nets.Always()), X)
        assert torch.equal(dk.functional.dropout(x), expected)


def test_nothing_is_keyed_by_looking(monkeypatch):
    """Once something is keyed, every call outside takes longer."""
    monkeypatch.setattr(streams, "_ever_keyed", False)
    dk.sites(nets.calls(), X)
    assert not streams._ever_keyed


def test_lazy_modules_are_refused():
    with pytest.raises(dk.InputError, match="has its parameters; got a lazy module"):
        dk.sites(nn.Sequential(nn.LazyLinear(3)), X)


def test_no_functional_sites():
    assert dk.sites(nn.Linear(8, 2), X) == []


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_modules_are_listed_once(need_weights):
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)

        def forward(self, x):
            return self.attn(x, x, x, need_weights=need_weights)[0]

    assert table_of(Attend(), X[None]) == [("attn", "attention", 0.3)]


def test_torchs_transformer_has_no_functional_sites():
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    x = X[None]
    assert table_of(model, (x, x)) == table(model)
    assert {site.kind for site in dk.sites(model)} == {"attention", "dropout"}


def test_the_table_shows_places():
    text = dk.format_sites(dk.sites(nn.Sequential(nets.Always(), nn.Dropout(0.1)), X)).splitlines()
    assert text[0].split() == ["name", "kind", "p", "active", "where"]
    assert text[1].split() == ["0:dropout", "dropout", "0.5", "yes", line_of("x = F.dropout(x, 0.5)")]
    assert text[3].split() == ["1", "dropout", "0.1", "yes"]


def test_only_what_can_be_set_is_settable():
    found = {site.name: site.settable for site in dk.sites(nn.Sequential(nets.Always(), nn.Dropout(), dk.nn.Standout()), X)}
    assert found == {"0:dropout": False, "0:scaled_dot_product_attention": False, "1": True, "2": False}
