"""Insert and remove, swap and back, on every architecture: what must not change does not, and what must does."""

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
import architectures
from architectures import CASES, TORCH, TRANSFORMERS, call, tensors

QUICK = {**{f"own-{name}": case for name, case in CASES.items()}, **{f"torch-{name}": case for name, case in TORCH.items()}}
HEAVY = {f"transformers-{name}": case for name, case in TRANSFORMERS.items()}
ALL = [*QUICK, "transformers-bert",
       *(pytest.param(name, marks=pytest.mark.slow) for name in HEAVY if name != "transformers-bert")]


def case_of(name):
    return (QUICK | HEAVY)[name]


def build(case):
    torch.manual_seed(0)
    return case.build().eval()


def evaluated(model, inputs):
    return [tensor.detach().clone() for tensor in tensors(call(model.eval(), inputs))]


def trained(model, inputs, seed=3):
    """The outputs of a training pass, whose batch statistics leave no trace in the model."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(seed)  # for dropout inside functions and torch's own modules, which `keyed` does not reach
    with dk.keyed(seed, step=1):
        result = [tensor.detach().clone() for tensor in tensors(call(model.train(), inputs))]
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    model.eval()
    return result


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def surroundings(model):
    """Everything about the modules that surgery must give back: attributes, hooks, children, modes."""
    return [(name, type(module), sorted(vars(module)), list(module._modules), list(module._forward_hooks),
             list(module._forward_pre_hooks), len(module._forward_pre_hooks_with_kwargs), module.training)
            for name, module in model.named_modules()]


def same_state(model, state):
    now = model.state_dict()
    return list(now) == list(state) and all(torch.equal(now[key], value) for key, value in state.items())


def check_copies(model, inputs):
    """Copies by `deepcopy` and by `pickle` do what the model does, and are independent of it."""
    expected, noisy = evaluated(model, inputs), trained(model, inputs)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(evaluated(twin, inputs), expected)
        assert same(trained(twin, inputs), noisy)
        dk.set_rate(twin, 0.0)
        assert same(trained(model, inputs), noisy)


def put(model, case):
    return [dk.insert(model, {name: make() for name, make in places.items()}, where=where)
            for where, places in (("after", case.after), ("before", case.before))]


@pytest.mark.parametrize("name", ALL)
def test_insert_and_remove(name):
    case = case_of(name)
    model, calls = build(case), []
    handle = model.register_forward_hook(lambda module, args, output: calls.append(len(calls)))
    state, before, outputs = copy.deepcopy(model.state_dict()), surroundings(model), evaluated(model, case.inputs)
    noisy = trained(model, case.inputs)

    insertions = put(model, case)
    names = [name for insertion in insertions for name in insertion.names]
    assert len(names) == len(set(names)) >= 2
    assert set(names) <= {site.name for site in dk.sites(model)}
    assert same(evaluated(model, case.inputs), outputs)
    assert same_state(model, state)
    model.load_state_dict(state)
    assert not same(trained(model, case.inputs), noisy)
    assert same(trained(model, case.inputs), trained(model, case.inputs))

    counted = len(calls)
    call(model, case.inputs)
    assert len(calls) == counted + 1
    handle.remove()
    check_copies(model, case.inputs)
    twin = copy.deepcopy(model)
    handle = model.register_forward_hook(lambda module, args, output: None)  # as before: one hook of the user's

    assert sorted(dk.remove(model, insertions[0]) + dk.remove(model, "*")) == sorted(names)
    assert [entry[:4] + entry[6:] for entry in surroundings(model)] == [entry[:4] + entry[6:] for entry in before]
    assert [len(entry[4]) + len(entry[5]) for entry in surroundings(model)] == [len(e[4]) + len(e[5]) for e in before]
    assert same(evaluated(model, case.inputs), outputs)
    assert same(trained(model, case.inputs), noisy)
    assert same_state(model, state)
    assert dk.remove(twin, names) == tuple(names)
    handle.remove()
    assert same(evaluated(twin, case.inputs), outputs)
    assert [entry[:6] for entry in surroundings(twin)] == [entry[:6] for entry in surroundings(model)]


@pytest.mark.parametrize("name", ALL)
def test_swap_and_back(name):
    case = case_of(name)
    model, calls = build(case), []
    model.register_forward_hook(Counter(calls))
    state, outputs, noisy = copy.deepcopy(model.state_dict()), evaluated(model, case.inputs), trained(model, case.inputs)
    before = surroundings(model)
    dropouts = [module for module in model.modules() if type(module) in {row.torch_twin for row in dk.catalog()}]

    dk.swap(model)
    assert same(evaluated(model, case.inputs), outputs)
    assert same_state(model, state)
    counted = len(calls)
    if dropouts:
        assert not same(trained(model, case.inputs), noisy)
    assert same(trained(model, case.inputs), trained(model, case.inputs))
    assert len(calls) > counted
    if dk.sites(model):
        check_copies(model, case.inputs)

    dk.swap(model, to="torch")
    assert surroundings(model) == before
    assert same(evaluated(model, case.inputs), outputs)
    assert same(trained(model, case.inputs), noisy)
    assert same_state(model, state)


@pytest.mark.parametrize("name", ["own-resnet", "own-gpt", "own-siamese", "torch-encoder"])
def test_swap_of_a_model_with_insertions(name):
    case = case_of(name)
    model = build(case)
    outputs = evaluated(model, case.inputs)
    dk.insert(model, {name: nn.Dropout(0.5) for name in case.after})  # torch's own, swapped like any other
    names = [site.name for site in dk.sites(model)]
    dk.swap(model)
    assert [site.name for site in dk.sites(model)] == names
    assert same(evaluated(model, case.inputs), outputs)
    check_copies(model, case.inputs)
    dk.swap(model, to="torch")
    dk.remove(model, "*")
    assert same(evaluated(model, case.inputs), outputs)


def test_there_are_enough_architectures():
    assert len(CASES) >= 16
    assert {"transformer", "encoder", "lstm", "gru", "attention"} <= set(TORCH)
    assert {"bert", "gpt2", "vit", "t5"} == set(TRANSFORMERS)


class Counter:
    """A hook of the user's that can be copied and pickled."""

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, module, arguments, output):
        self.calls.append(type(module).__name__)


assert architectures  # the module's classes are pickled by its name
