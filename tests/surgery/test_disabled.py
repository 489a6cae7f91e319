import copy
import pickle
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.intercept import THREAD

sys.path.insert(0, str(Path(__file__).parent))
import nets

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def deterministic(model, x=X):
    return torch.equal(model(x), model(x))


def modes(model):
    return [(type(module), module.training, set(vars(module))) for module in model.modules()]


def assert_clean():
    assert THREAD.interceptor is None
    assert THREAD.watchers == ()
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize("swapped", [False, True])
def test_nothing_drops_and_everything_comes_back(swapped):
    model = nets.calls()
    if swapped:
        dk.swap(model, inputs=X)
    before = modes(model)
    assert not deterministic(model)
    state = torch.get_rng_state()
    with dk.disabled(model):
        assert deterministic(model)
        assert [module.training for module in model.modules()] == [True] * len(before)
    assert torch.equal(torch.get_rng_state(), state)
    assert modes(model) == before
    assert not deterministic(model)
    assert_clean()


def test_the_output_is_that_of_rate_zero():
    model = dk.swap(nets.calls(), inputs=X)
    with dk.disabled(model):
        off = model(X)
    dk.set_rate(model, 0.0)
    assert torch.equal(model(X), off)


@pytest.mark.parametrize("row", dk.catalog(), ids=lambda row: row.name)
def test_every_variant_is_off(row):
    module, inputs = row.trial.make(0.4).train(), row.trial.inputs(4)
    expected = module.eval()(*inputs)
    with dk.disabled(nn.Sequential(module.train())):
        assert str(module(*inputs)) == str(expected)
    assert module.training


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_modules_stay_in_training(kind):
    model, seen = nets.Tagger(kind), []
    model.rnn.register_forward_pre_hook(lambda module, args: seen.append((module.training, module.dropout)))
    with dk.disabled(model):
        assert deterministic(model, torch.ones(2, 5, 8))
    assert seen == [(True, 0.0)] * 2  # cuDNN has no backward pass for evaluation
    assert model.rnn.dropout == 0.3


def test_batch_normalisation_goes_on():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(8))
    with dk.disabled(model):
        y = model(X)
    expected = nn.BatchNorm1d(8)
    assert torch.equal(y, expected(X))
    assert torch.equal(model[1].running_mean, expected.running_mean)


def test_calls_that_ignore_the_mode_are_off_too():
    model = nets.Always().eval()
    assert not deterministic(model)
    with dk.disabled(model):
        assert deterministic(model)


@pytest.mark.parametrize(("where", "rest"), [("0:*", {"1", "2:dropout"}), ("1", {"0:dropout", "2:dropout"}),
                                             ("*:dropout", {"1"}), ("*", set())])
@pytest.mark.parametrize("swapped", [False, True])
def test_where_chooses_by_name(where, rest, swapped):
    class Call(nn.Module):
        def forward(self, x):
            return F.dropout(x, 1.0)

    parts = {"0:dropout": Call(), "1": nn.Dropout(1.0), "2:dropout": Call()}
    model = nn.Sequential(*parts.values())
    if swapped:
        dk.swap(model, inputs=X)
    with dk.disabled(model, where):
        assert {name for name, part in parts.items() if not part(X).any()} == rest


def test_contexts_nest():
    model = nn.Sequential(nets.Always(), nn.Dropout(1.0))
    with dk.disabled(model, "1"):
        with dk.disabled(model, "0:*"):
            assert deterministic(model)
            assert model(X).any()
        assert not deterministic(model)
        assert model(X).any()
    assert not model(X).any()
    assert_clean()


def test_an_error_restores_everything():
    class Bad(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Dropout(0.5), nets.Calls(), Bad())
    before = modes(model)
    with pytest.raises(KeyboardInterrupt), dk.disabled(model):
        model(X)
    assert modes(model) == before
    assert_clean()


def test_train_inside_the_block_turns_nothing_on():
    model = nets.calls().eval()
    with dk.disabled(model):
        model.train()
        assert deterministic(model)
    assert all(module.training for module in model.modules())


def test_a_part_called_by_itself_is_off():
    model = nets.calls()
    with dk.disabled(model):
        assert deterministic(model[0])
        assert torch.equal(model[1](X), X)


def test_copies_made_inside_are_free_afterwards():
    model = nn.Sequential(nets.Always(), nn.Dropout(0.5))
    with dk.disabled(model):
        other, stored = copy.deepcopy(model), pickle.dumps(model)
        assert deterministic(other)
    for free in (other, pickle.loads(stored)):
        assert not deterministic(free[0])
        assert not deterministic(free[1])
    with torch.no_grad():
        assert other[0] is not model[0]


def test_other_threads_are_off_and_others_models_are_not():
    model, other, results = nets.calls(), nets.calls(), {}
    inside, leave = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)

    class Wait(nn.Module):
        def forward(self, x):
            if threading.current_thread() is not threading.main_thread():
                inside.wait()
                leave.wait()
            return x

    model = nn.Sequential(Wait(), *model)

    def run():
        results["same"] = model(X)

    with dk.disabled(model):
        thread = threading.Thread(target=run)
        thread.start()
        inside.wait()
        mine = model(X)  # leaves while the other thread's forward is still running
        leave.wait()
        thread.join()
        assert torch.equal(results["same"], mine)
        assert not deterministic(other)
    assert not deterministic(model)


def compiled_inside():
    return nn.Sequential(torch.compile(nets.Always(), backend="eager"), nn.Dropout(0.5))


def compiled_in_place():
    model = nets.Always()
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize("build", [lambda: torch.compile(nets.Always(), backend="eager"), compiled_inside, compiled_in_place])
def test_compiled_models_run_uncompiled_inside(build):
    torch.compiler.reset()
    model = build()
    model(X)
    with dk.disabled(model):
        assert deterministic(model)
    assert not deterministic(model)


def test_a_checkpointed_forward_is_recomputed_alike():
    from torch.utils.checkpoint import checkpoint
    model = nn.Sequential(nn.Linear(8, 8), nets.Always())
    with dk.disabled(model):
        model(X).sum().backward()
        expected = model[0].weight.grad.clone()
        model.zero_grad()
        checkpoint(model, X, use_reentrant=False).sum().backward()
    assert torch.equal(model[0].weight.grad, expected)


def test_signatures_are_kept_inside():
    import inspect
    model = nets.Calls()
    with dk.disabled(model):
        assert list(inspect.signature(model.forward).parameters) == ["x"]


def test_a_model_is_a_module():
    with pytest.raises(dk.InputError, match=r"a model is a torch\.nn\.Module"), dk.disabled([nn.Dropout()]):
        pass


@pytest.mark.parametrize(("where", "near"), [("head", "'1'"), ("0:dropuot", "'0:dropout'")])
def test_a_pattern_that_matches_nothing_is_refused_afterwards(where, near):
    model = nn.Sequential(nets.Always(), nn.Dropout(0.5))
    with pytest.raises(dk.InputError, match=f"matches the name of a site that runs; got '{where}'.*{near}"), \
            dk.disabled(model, where):
        model(X)
    assert_clean()
    with dk.disabled(model, where):  # nothing ran, nothing can be said
        pass
    plain = nn.Linear(8, 8)
    with dk.disabled(plain):  # everything may be nothing
        assert deterministic(plain)


def test_an_error_of_the_model_comes_first():
    with pytest.raises(KeyError), dk.disabled(nets.calls(), "nothing"):
        raise KeyError


@pytest.mark.parametrize("where", [None, 3, ["*"]])
def test_where_is_text(where):
    with pytest.raises(dk.InputError, match="where is a glob of site names"), dk.disabled(nn.Dropout(), where):
        pass


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_scripted_dropout_is_refused_where_it_acts():
    model = nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))), nn.Dropout(0.5))
    with pytest.raises(dk.InputError, match="written in Python; got a scripted or traced module at '0'"), dk.disabled(model):
        raise AssertionError("it does not run")
    with pytest.raises(dk.InputError, match="written in Python"), dk.disabled(model, "0.*"):
        raise AssertionError("it does not run")
    with dk.disabled(model, "1"):
        assert not deterministic(model)
    model[0].eval()
    with dk.disabled(model):
        assert deterministic(model)
        model.train()
        with pytest.raises(dk.InputError, match="which drops"):
            model(X)
    assert_clean()
