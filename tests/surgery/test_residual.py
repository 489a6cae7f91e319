"""Which sums are residual, and where their branches end."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dropkit.surgery.residual import residual_branches
from dropkit.surgery.trace import trace

sys.path.insert(0, str(Path(__file__).parent))
from architectures import CASES, TORCH, TRANSFORMERS

X = torch.randn(3, 4)


def found(model, inputs=(X,)):
    branches, notes = residual_branches(trace(model, inputs))
    return [(branch.module, branch.block) for branch in branches], notes


class Net(nn.Module):
    """Two layers and a forward given from outside."""

    def __init__(self, forward):
        super().__init__()
        self.one, self.two, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.1)
        self.gamma = nn.Parameter(torch.ones(4))
        self.function = forward

    def forward(self, *inputs):
        return self.function(self, *inputs)


EXPECTED = {
    "resnet": [(f"layer{i}.{j}.bn2", f"layer{i}.{j}") for i, j in ((1, 0), (2, 0), (3, 0), (4, 0), (4, 1))],
    "resnet_bottleneck": [(f"layer{i}.{j}.bn3", f"layer{i}.{j}") for i, j in ((1, 0), (2, 0), (3, 0), (4, 0), (4, 1))],
    "vit": [(f"blocks.{i}.drop_path", f"blocks.{i}") for i in (0, 0, 1, 1)],
    "mixer": [(f"blocks.{i}.{part}.2", f"blocks.{i}") for i in (0, 1) for part in ("tokens", "channels")],
    "convnext": [(f"stages.{i}.pwconv2", f"stages.{i}") for i in ("0.0", "1.0", "1.1")],
    "gpt": [(f"h.{i}.{part}", f"h.{i}") for i in (0, 1) for part in ("resid_dropout", "mlp.3")],
    "diffusion": [(f"{name}.conv2", name) for name in ("down", "middle", "up")],
    "residuals": [("one", "sum 3"), ("three", "sum 7")],
    "encoder": [(f"layers.{i}.dropout{k}", f"layers.{i}") for i in (0, 1) for k in (1, 2)],
    "encoder_time_first": [(f"layers.{i}.dropout{k}", f"layers.{i}") for i in (0, 1) for k in (1, 2)],
    "transformer": [*((f"encoder.layers.0.dropout{k}", "encoder.layers.0") for k in (1, 2)),
                    *((f"decoder.layers.{i}.dropout{k}", f"decoder.layers.{i}") for i in (0, 1) for k in (1, 2, 3))],
}
NONE = ["densenet", "unet", "functional", "vae", "gan", "tagger", "packed", "language_model", "siamese", "recommender", "mlp",
        "lstm", "gru", "attention"]


@pytest.mark.parametrize("name", EXPECTED)
def test_known_blocks(name):
    case = (CASES | TORCH)[name]
    assert found(case.build(), case.inputs) == (EXPECTED[name], [])


@pytest.mark.parametrize("name", NONE)
def test_models_without_residuals(name):
    case = (CASES | TORCH)[name]
    assert found(case.build(), case.inputs) == ([], [])


def test_a_gated_stack_with_skips():
    branches, notes = found(CASES["wavenet"].build(), CASES["wavenet"].inputs)
    assert [module for module, _ in branches] == ["residuals.0", "residuals.1", "residuals.2"]
    assert notes == []


TRANSFORMER_BLOCKS = {
    "bert": [(f"encoder.layer.{i}.{part}.dropout", f"encoder.layer.{i}")
             for i in (0, 1) for part in ("attention.output", "output")],
    "gpt2": [(f"transformer.h.{i}.{part}", f"transformer.h.{i}")
             for i in (0, 1) for part in ("attn.resid_dropout", "mlp.dropout")],
    "t5": [(f"{stack}.block.{i}.layer.{k}.dropout", f"{stack}.block.{i}")
           for stack, parts in (("encoder", 2), ("decoder", 3)) for i in (0, 1) for k in range(parts)],
}


@pytest.mark.parametrize("name", ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "t5"))])
def test_blocks_of_transformers(name):
    case = TRANSFORMERS[name]
    assert found(case.build(), case.inputs) == (TRANSFORMER_BLOCKS[name], [])


@pytest.mark.parametrize(("forward", "module"), [
    (lambda m, x: x + m.two(torch.tanh(m.one(x))), "two"), (lambda m, x: m.one(x).add_(x), "one"),
    (lambda m, x: torch.add(m.one(x), x), "one"), (lambda m, x: x + m.gamma * m.one(x), "one"),
    (lambda m, x: x + m.drop(m.one(x)), "drop"), (lambda m, x: x + torch.relu(m.one(x)), "one"),
    (lambda m, x: x + m.one(x).view(3, 2, 2).flatten(1), "one"), (lambda m, x: m.drop(x) + m.one(x), "one"),
    (lambda m, x: x + m.drop(m.one(m.drop(x))), "one"),  # the dropout is used inside a branch too, so it is not the end
])
def test_the_last_module_of_a_branch(forward, module):
    branches, notes = found(Net(forward))
    assert [name for name, _ in branches] == [module]
    assert notes == []


@pytest.mark.parametrize("forward", [
    lambda m, x: m.one(x) + m.gamma, lambda m, x: m.one(x) + 1, lambda m, x: x + x, lambda m, x: x + 0.1 * x ** 3,
    lambda m, x: m.one(x) + m.two(x).mean(1, keepdim=True), lambda m, x: m.one(x) * m.two(x),
    lambda m, x: x * m.gamma.cos() + x.flip(1) * m.gamma.sin(),  # rotary positions
])
def test_sums_that_are_not_residual(forward):
    assert found(Net(forward)) == ([], [])


@pytest.mark.parametrize(("forward", "note"), [
    (lambda m, x: m.one(x) + m.two(x), "which is the branch cannot be told"),
    (lambda m, x: x + torch.tanh(m.one(x)), r"ends with tanh\(\)"),
    (lambda m, x: x + m.one(x).flip(0), r"ends with flip\(\)"),
    (lambda m, x: x + m.one(x.t()).t(), r"ends with t\(\)"),
])
def test_what_cannot_be_told_is_said(forward, note):
    x = torch.randn(4, 4)
    branches, notes = found(Net(forward), (x,))
    assert branches == []
    assert len(notes) == 1
    assert re.search(note, notes[0])


def test_a_branch_whose_end_is_used_elsewhere_is_left():
    branches, notes = found(Net(lambda m, x: (lambda y: (x + y) * y.mean())(m.one(x))))
    assert branches == []
    assert "no module of its own" in notes[0]


def test_conditions_are_not_skip_connections():
    # Raw positions or times, added in every block, are what later tensors were computed from.
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, time):
            x = x + time
            return x + self.layer(x)

    class Stack(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(Block() for _ in range(3))

        def forward(self, x, time):
            for block in self.blocks:
                x = block(x, time)
            return x

    assert found(Stack(), (X, X + 1)) == ([(f"blocks.{i}.layer", f"blocks.{i}") for i in range(3)], [])


def test_a_module_that_only_adds():
    class Add(nn.Module):
        def forward(self, one, other):
            return one + other

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.add = nn.Linear(4, 4), Add()

        def forward(self, x):
            return self.add(self.layer(x), x)

    assert [module for module, _ in found(Block())[0]] == ["layer"]


def test_stochastic_depth_that_is_there_is_not_doubled():
    import dropkit as dk

    model = Net(lambda m, x: x + m.drop(m.one(x)))
    model.drop = dk.nn.DropPath(0.1)
    branches, notes = found(model)
    assert branches == []
    assert notes == ["the branch that ends with 'drop' has stochastic depth already: set its rate with dk.set_rate"]
    model.drop.p = 0.0
    assert found(model) == ([], notes)
    model.drop = DropPath(0.1)
    assert found(model) == ([], notes)
    model.drop.drop_prob = 0.0  # what timm's module does at 0 nobody can set through dk.set_rate
    assert [module for module, _ in found(model)[0]] == ["drop"]


class DropPath(nn.Module):
    """A stand-in for timm's."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return x


def test_sites_that_were_inserted_are_no_modules_of_the_branch():
    import dropkit as dk

    model = Net(lambda m, x: x + m.one(x))
    dk.insert(model, {"one": dk.nn.Dropout(0.5)})
    dk.insert(model, {"one": dk.nn.Dropout(0.5)}, where="before")
    assert [module for module, _ in found(model)[0]] == ["one"]
    dk.insert(model, {"one": dk.nn.DropPath(0.0)})
    assert found(model) == ([], ["the branch that ends with 'one.after_dropout_2' has stochastic depth already: set its rate "
                                 "with dk.set_rate"])


@pytest.mark.parametrize("forward", [lambda m, x: x + m.one(x) + m.two(x), lambda m, x: m.one(x) + m.two(x) + x])
def test_parallel_branches(forward):
    assert [module for module, _ in found(Net(forward))[0]] == ["one", "two"]
