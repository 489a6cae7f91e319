import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.surgery.streams import name_streams
from dropkit.variants.site import DropoutSite

sys.path.insert(0, str(Path(__file__).parent))
import nets


def classes(model):
    return [type(module) for module in model.modules()]


def ours(model):
    return [module for module in model.modules() if isinstance(module, DropoutSite)]


@pytest.mark.parametrize("name", nets.CASES)
def test_round_trip(name):
    build, x = nets.CASES[name]
    model = build()
    before, attributes = classes(model), [dict(vars(m)) for m in model.modules()]
    state, keys = copy.deepcopy(model.state_dict()), list(model.state_dict())
    identities = list(map(id, model.modules()))
    evaluated = model.eval()(x)

    assert dk.swap(model) is model
    assert torch.equal(model(x), evaluated)
    assert ours(model)
    assert not any(type(m) in {row.torch_twin for row in dk.catalog()} for m in model.modules())
    assert [found for found in map(id, model.modules()) if found in identities] == identities  # recurrent ones gain children
    assert list(model.state_dict()) == keys
    model.load_state_dict(state)
    assert model.train()(x).shape == evaluated.shape

    assert dk.swap(model.eval(), to="torch") is model
    assert classes(model) == before
    assert list(map(id, model.modules())) == identities
    assert [set(vars(m)) for m in model.modules()] == [set(a) for a in attributes]
    assert torch.equal(model(x), evaluated)


def test_settings_survive():
    model = nn.Sequential(nn.Dropout(0.3, inplace=True).eval(), nn.Dropout2d(0.2))
    dk.swap(model)
    assert (model[0].p, model[0].inplace, model[0].training) == (0.3, True, False)
    assert (model[1].p, model[1].training) == (0.2, True)
    assert repr(model[1]) == "Dropout2d(p=0.2, inplace=False)"


def test_hooks_and_references_survive():
    model, calls = nn.Sequential(nn.Dropout(0.5)), []
    held = model[0]
    handle = held.register_forward_hook(lambda module, args, output: calls.append(type(module)))
    dk.swap(model)
    model(torch.ones(3))
    assert calls == [dk.nn.Dropout]
    assert held is model[0]
    handle.remove()
    model(torch.ones(3))
    assert len(calls) == 1


def test_shared_modules_stay_shared_and_take_their_first_name():
    model = dk.swap(nets.Shared())
    assert model.drop is model.head[1]
    assert model.drop.stream == "drop"
    x = torch.ones(100, 8)
    with dk.keyed(1):
        model(x)
        third = model.drop(x)  # each use has a mask of its own
    with dk.keyed(1):
        first, second = model.drop(x), model.drop(x)
        assert torch.equal(model.drop(x), third)
    assert len({tuple((y != 0).flatten().tolist()) for y in (first, second, third)}) == 3


def test_subclasses_keep_their_names():
    model = dk.swap(nets.mixed())
    assert isinstance(model[5], nets.Own)
    assert [type(m).__module__.split(".")[0] for m in model] == ["torch", "dropkit", "torch", "dropkit", "dropkit", "nets"]


def test_streams_are_paths():
    model = dk.swap(nets.encoder())
    assert [m.stream for m in ours(model)] == [f"layers.{i}.dropout{k}" for i in (0, 1) for k in ("", "1", "2")]
    assert dk.swap(nn.Dropout()).stream == ""


def test_masks_depend_on_names_not_on_order():
    x = torch.ones(200)
    model = dk.swap(nn.ModuleDict({"a": nn.Dropout(), "b": nn.Dropout()}))
    with dk.keyed(1):
        a, b = model["a"](x), model["b"](x)
    with dk.keyed(1):
        assert torch.equal(model["b"](x), b)
        assert torch.equal(model["a"](x), a)
    assert not torch.equal(a, b)


def test_naming_replaces_old_names():
    inner = dk.swap(nn.Sequential(nn.Dropout()))
    assert inner[0].stream == "0"
    assert name_streams(nn.Sequential(nn.ReLU(), inner))[1][0].stream == "1.0"


def test_swapping_twice_changes_nothing_more():
    model = dk.swap(nets.mixed())
    before = classes(model)
    assert classes(dk.swap(model)) == before


@pytest.mark.parametrize(("module", "setting"), [
    (dk.nn.Dropout(share_dims=(1,)), r"share_dims=\(1,\)"), (dk.nn.Dropout(scaling="classic"), "scaling='classic'"),
    (dk.nn.Dropout1d(channel_dim=-1), "channel_dim=-1"), (dk.nn.Dropout3d(channel_dim=-1), "channel_dim=-1"),
])
def test_what_torch_lacks_is_refused_before_anything_changes(module, setting):
    model = nn.Sequential(dk.nn.Dropout(), nn.Sequential(module))
    before = classes(model)
    with pytest.raises(dk.InputError, match=f"torch's Dropout.*{setting} at site '1.0'"):
        dk.swap(model, to="torch")
    assert classes(model) == before


def test_unknown_directions_are_refused():
    with pytest.raises(dk.InputError, match='to is "dropkit" or "torch"'):
        dk.swap(nn.Dropout(), to="keras")


def test_back_in_torch_its_own_masks_return():
    model = dk.swap(dk.swap(nn.Sequential(nn.Dropout(0.5))), to="torch")
    x = torch.ones(100)
    torch.manual_seed(0)
    expected = nn.Dropout(0.5)(x)
    torch.manual_seed(0)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models(wrap):
    torch.compiler.reset()
    model = nn.Sequential(nn.Dropout(0.5))
    wrapped = wrap(model)
    x = torch.ones(50)
    wrapped(x)
    assert dk.swap(wrapped) is wrapped
    assert model[0].stream == "0"
    with dk.keyed(4):
        expected = model(x)
    with dk.keyed(4):
        assert torch.equal(wrapped(x), expected)


def test_swapped_transformers_train_and_reproduce():
    model, x = dk.swap(nets.encoder()), nets.CASES["encoder"][1]
    runs = []
    for _ in range(2):
        model.zero_grad()
        with dk.keyed(1, step=5):
            model(x).square().sum().backward()
        runs.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def test_round_trip_with_functional_calls():
    model = nets.calls()
    before, attributes, hooks = classes(model), [set(vars(m)) for m in model.modules()], repr(model)
    state, keys = copy.deepcopy(model.state_dict()), list(model.state_dict())
    identities = list(map(id, model.modules()))
    evaluated = model.eval()(X)
    assert dk.swap(model, inputs=X) is model
    assert torch.equal(model(X), evaluated)
    assert list(map(id, model.modules())) == identities
    assert list(model.state_dict()) == keys
    model.load_state_dict(state)
    dk.swap(model, to="torch")
    assert torch.equal(model(X), evaluated)
    assert (classes(model), [set(vars(m)) for m in model.modules()], repr(model)) == (before, attributes, hooks)


def test_everything_follows_keyed():
    model, runs = dk.swap(nets.calls(), inputs=X), []
    for _ in range(2):
        model.zero_grad()
        with dk.keyed(1, step=5):
            model(X).square().sum().backward()
        runs.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    with dk.keyed(2), torch.no_grad():
        other = model(X)
    with dk.keyed(1), torch.no_grad():
        assert not torch.equal(model(X), other)


def test_streams_of_calls_follow_new_names():
    model = dk.swap(nn.Sequential(nets.Always()), inputs=X)
    with dk.keyed(0):
        first = model(X)
    outer = name_streams(nn.Sequential(nn.Identity(), model))
    with dk.keyed(0):
        assert not torch.equal(outer(X), first)


def test_a_rate_that_torch_has_no_place_for_is_refused():
    model = dk.swap(nets.calls(), inputs=X)
    dk.set_rate(model, {"2:dropout": 0.9})
    before = classes(model)
    with pytest.raises(dk.InputError, match=r"a rate of 0\.9 that was set at site '2:dropout'\. Set it to .* first, 0\.6"):
        dk.swap(model, to="torch")
    assert classes(model) == before
    dk.set_rate(model, {"2:dropout": 0.6})
    assert classes(dk.swap(model, to="torch")) == classes(nets.calls())


def test_a_forward_that_raises_changes_nothing():
    model = nets.calls()
    before = classes(model)
    with pytest.raises(dk.InputError, match="a model runs on the inputs"):
        dk.swap(model, inputs=torch.ones(3))
    assert classes(model) == before


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models_with_calls(wrap):
    torch.compiler.reset()
    model = nn.Sequential(nets.Calls())
    wrapped = dk.swap(wrap(model), inputs=X)
    assert [site.name for site in dk.sites(wrapped)] == [
        "0:dropout", "0:dropout#1", "0:scaled_dot_product_attention", "0:alpha_dropout"]
    with dk.keyed(4):
        expected = model(X)
    with dk.keyed(4):
        assert torch.equal(wrapped(X), expected)


def test_new_code_is_found_by_swapping_again():
    model = dk.swap(nn.Sequential(nn.Linear(8, 8)), inputs=X)
    assert dk.sites(model) == []
    model.append(nets.Always())
    assert [site.name for site in dk.sites(dk.swap(model, inputs=X))] == ["1:dropout", "1:scaled_dot_product_attention"]
