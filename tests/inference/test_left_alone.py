"""Whatever happens, the model is as it was."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import dropkit as dk

sys.path.insert(0, str(Path(__file__).parent))
from mc_nets import CASES, noise


class Stops(nn.Module):
    """Raises in the third forward that is made in evaluation with something acting."""

    def __init__(self, error):
        super().__init__()
        self.error, self.passes = error, [0]

    def forward(self, x):
        self.passes[0] += 1
        if self.passes[0] >= self.limit:
            raise self.error
        return x if x.sum() < 1e9 else -x  # so that passes run in turn

    limit = 6


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("train", [True, False])
def test_an_error_in_the_middle_leaves_nothing_behind(error, train):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), Stops(error), nn.Linear(8, 3)).train(train)
    handle = model[0].register_forward_hook(lambda *_: None)
    tensors = {name: x.clone() for name, x in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    kinds = [type(module) for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with pytest.raises(type(error)):
        dk.mc_predict(model, noise(4, 8), 50)
    assert all(torch.equal(x, tensors[name]) for name, x in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [type(module) for module in model.modules()] == kinds
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert list(model[0]._forward_hooks.values()) == [model[0]._forward_hooks[handle.id]]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.parametrize("name", ["mlp", "functional", "attention", "encoder"])
def test_inside_disabled_it_is_refused(name):
    make, x, _ = CASES[name]
    model = make().eval()
    with dk.disabled(model), pytest.raises(dk.InputError, match=r"inside dk\.disabled"):
        dk.mc_predict(model, x, 4)
    assert dk.mc_predict(model, x, 4).variance.any()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_surrounding_mode_does_not_matter(context):
    torch.manual_seed(0)
    make, x, _ = CASES["functional"]
    model = make().eval()
    usual = dk.mc_predict(model, x, 4, samples=True).samples
    with context():
        torch.testing.assert_close(dk.mc_predict(model, x, 4, samples=True).samples, usual)
        torch.testing.assert_close(dk.mc_predict(model, x, 4, samples=True, method="loop").samples, usual)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [
    lambda net, x: torch.jit.script(net), lambda net, x: torch.jit.trace(net.train(), x, check_trace=False),
    lambda net, x: nn.Sequential(torch.jit.script(net)),
], ids=["scripted", "traced in training", "scripted part"])
def test_scripted_dropout_is_refused(make):
    net, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)), noise(4, 8)
    with pytest.raises(dk.InputError, match="written in Python"):
        dk.mc_predict(make(net, x), x, 4)


@pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning")
def test_an_exported_program_is_refused():
    net, x = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).eval(), noise(4, 8)
    module = torch.export.export(net, (x,)).module()
    with pytest.raises(dk.InputError, match="at least one site acts"):  # the export has left dropout out
        dk.mc_predict(module, x, 4)


def test_a_branch_that_does_not_count_is_an_error():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 3)

        def forward(self, x):
            self.drop(x)
            return self.head(x)

    with pytest.raises(dk.InputError, match="the output depends on the sites that act"):
        dk.mc_predict(Unused(), noise(4, 8), 10)


def test_gradients_that_a_forward_takes_stay_its_own():
    class Energy(nn.Module):
        """Takes a gradient inside its forward."""

        def __init__(self):
            super().__init__()
            self.body, self.drop = nn.Linear(8, 1), nn.Dropout(0.5)

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                self.body(self.drop(x)).sum().backward()
            return x.grad

    torch.manual_seed(0)
    model = Energy()
    model.body.weight.grad = torch.ones(1, 8)
    found = dk.mc_predict(model, noise(4, 8), 5, samples=True)
    assert found.method == "loop"
    assert (found.samples[0] != found.samples[1]).any()
    assert torch.equal(model.body.weight.grad, torch.ones(1, 8))
