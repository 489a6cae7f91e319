"""A watched forward pass: what it records, and that nothing of it remains."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dropkit as dk
from dropkit.surgery.trace import trace

sys.path.insert(0, str(Path(__file__).parent))
import architectures
from architectures import CASES, TORCH


def operations(watched):
    return [node.operation for node in watched.nodes]


@pytest.mark.parametrize("name", [*CASES, *TORCH])
def test_nothing_remains(name):
    case = (CASES | TORCH)[name]
    model = case.build().train()
    for module in list(model.modules())[1::2]:
        module.training = False  # an uneven mode is given back as it was
    before = [(type(module), module.training, sorted(vars(module)), len(module._forward_hooks)) for module in model.modules()]
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    watched = trace(model, case.inputs)
    assert len(watched.calls) > 0
    assert before == [(type(module), module.training, sorted(vars(module)), len(module._forward_hooks))
                      for module in model.modules()]
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled()
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


class Counting(nn.Module):
    """A buffer that moves in evaluation too, and a function that is random in it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return F.dropout(x, 0.5)


def test_buffers_and_random_numbers_are_given_back():
    model, random = Counting(), torch.get_rng_state()
    trace(model, torch.ones(4))
    assert model.count == 0
    assert torch.equal(torch.get_rng_state(), random)


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Counting()

    def forward(self, x):
        self.inner(x)
        raise RuntimeError("broken")


def test_all_is_given_back_when_the_model_fails():
    model = Fails()
    with pytest.raises(RuntimeError, match="broken"):
        trace(model, torch.ones(4))
    assert model.inner.count == 0
    assert model.inner.training
    assert not nn.modules.module._global_forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.ones(2).add(1).sum() == 4  # no mode is left on


def test_what_a_module_passes_through_is_a_node_of_its_own():
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity())
    watched = trace(model, torch.ones(4))
    identities = [node for node in watched.nodes if node.operation == "identity"]
    assert [node.made_by[0][0].name for node in identities] == ["0", "1"]
    assert identities[1].parents == (identities[0],)


class Updates(nn.Module):
    def forward(self, x):
        y = x * 2
        y += x
        y.relu_()
        z = y.contiguous()  # y itself
        return z - y


def test_in_place_functions_make_new_nodes_and_others_do_not():
    watched = trace(Updates(), torch.ones(4))
    last = watched.nodes[-1]
    assert last.operation == "sub"
    assert len(last.parents) == 1
    assert last.parents[0].operation == "relu_"
    assert [(total.operation, left.operation, right.operation) for total, left, right in watched.additions] == [
        ("add_", "mul", "input")]


def test_inputs_may_be_named():
    watched = trace(architectures.Siamese(), {"one": torch.ones(2, 8), "other": torch.ones(2, 8)})
    assert operations(watched).count("input") == 2
    assert [call.name for call in watched.calls].count("left.0") == 2


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrappers_are_looked_through(wrap):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert [call.name for call in trace(wrap(model), torch.ones(1, 2)).calls] == ["", "0", "1"]


def test_compiled_parts_run_as_they_are_written():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1] = torch.compile(model[1], backend="eager")
    assert [call.name for call in trace(model, torch.ones(1, 2)).calls] == ["", "0", "1"]


def test_lazy_models_and_inputs_without_tensors_are_refused():
    with pytest.raises(dk.InputError, match="Run a batch through the model first"):
        trace(nn.LazyLinear(2), torch.ones(1, 2))
    with pytest.raises(dk.InputError, match="inputs hold a tensor; got None"):
        trace(nn.ReLU(), None)
