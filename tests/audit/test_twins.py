"""Mistakes and their good twins, in models that no report gave: what a rule says of any model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropkit.audit.audit import audit


class Net(nn.Module):
    """Layers by name, and a forward that is a function of them and the inputs."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs: Tensor) -> Any:
        return self.run(self, *inputs)


def found(rule: str, model: nn.Module, *inputs: Tensor) -> list[str]:
    torch.manual_seed(0)
    result = audit(model, inputs, select=[rule])
    assert result.coverage.passes == ("train", "eval", "train again")
    return [finding.rule for finding in result.findings]


Case = tuple[str, Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...]]
CASES: dict[str, Case] = {}


def case(rule: str, name: str, bad: Callable[..., Any], good: Callable[..., Any], layers: Callable[[], dict[str, nn.Module]],
         *shape: int) -> None:
    CASES[f"{rule} {name}"] = rule, lambda: Net(bad, **layers()), lambda: Net(good, **layers()), shape


# the stream itself

def _maps() -> dict[str, nn.Module]:
    return {"stem": nn.Conv2d(3, 16, 3, padding=1), "a": nn.Conv2d(16, 16, 3, padding=1), "b": nn.Conv2d(16, 16, 3, padding=1),
            "norm": nn.GroupNorm(4, 16), "drop": nn.Dropout2d(0.2), "head": nn.Linear(16, 5)}


def _copy(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    x = x + net.drop(x)
    return net.head(net.a(x).mean((2, 3)))


def _branch(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    x = x + net.drop(net.b(x))
    return net.head(net.a(x).mean((2, 3)))


def _normed_sum(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    x = net.drop(F.relu(net.norm(x + net.a(x))))
    x = x + net.b(x)
    return net.head(x.mean((2, 3)))


def _normed_branch(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    x = F.relu(net.norm(x + net.drop(net.a(x))))
    x = x + net.b(x)
    return net.head(x.mean((2, 3)))


case("DK202", "a dropped copy of the stream", _copy, _branch, _maps, 4, 3, 8, 8)
case("DK202", "a normalised sum", _normed_sum, _normed_branch, _maps, 4, 3, 8, 8)


# predictions

def _heads() -> dict[str, nn.Module]:
    return {"body": nn.Linear(20, 32), "first": nn.Linear(20, 5), "second": nn.Linear(32, 5), "drop": nn.Dropout(0.3)}


case("DK203", "a sum of predictions", lambda net, x: net.drop(net.first(x)) + net.drop(net.second(F.relu(net.body(x)))),
     lambda net, x: net.first(x) + net.drop(net.second(F.relu(net.body(x)))), _heads, 8, 20)


def _each_layer(net: Any, x: Tensor) -> Tensor:
    for layer in (net.body, net.second):
        x = net.drop(torch.tanh(x))
        x = layer(x)
    return net.drop(x)


def _before_each(net: Any, x: Tensor) -> Tensor:
    for layer in (net.body, net.second):
        x = layer(net.drop(torch.tanh(x)))
    return x


case("DK203", "a site that comes back at the end", _each_layer, _before_each, _heads, 8, 20)
case("DK203", "whole maps of classes",
     lambda net, x: F.interpolate(net.drop(net.b(F.relu(net.stem(x)))), scale_factor=2),
     lambda net, x: F.interpolate(net.b(net.drop(F.relu(net.stem(x)))), scale_factor=2), _maps, 4, 3, 8, 8)


def _steps(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.drop(net.second(F.relu(net.body(step)))) for step in x.unbind(1)], 1)


def _steps_before(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.second(net.drop(F.relu(net.body(step)))) for step in x.unbind(1)], 1)


case("DK203", "the predictions of steps", _steps, _steps_before, _heads, 4, 3, 20)


# the input of convolutions

def _deep(channels: int = 7) -> dict[str, nn.Module]:
    return {"drop": nn.Dropout2d(0.2), "convs": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, channels, 3, padding=1))}


case("DK205", "channels of a picture", lambda net, x: net.convs(net.drop(x)).mean((2, 3)),
     lambda net, x: net.drop(net.convs(x)), _deep, 2, 3, 8, 8)
case("DK205", "a denoiser gives back its input", lambda net, x: net.convs(net.drop(x)).flatten(1),
     lambda net, x: net.convs(net.drop(x)), lambda: _deep(3), 2, 3, 8, 8)


# in series

def _twice(net: Any, x: Tensor) -> Tensor:
    for _ in range(2):
        x = net.drop(x)
    return net.first(x)


case("DK206", "one module two times", _twice, lambda net, x: net.first(net.drop(x)), _heads, 4, 20)
case("DK206", "stacked parts", lambda net, x: net.first(net.drop(torch.stack([net.drop(x), net.drop(x.flip(0))]))),
     lambda net, x: net.first(net.drop(torch.stack([net.drop(x), x.flip(0)]))), _heads, 4, 20)


# results that nobody uses

def _loop_in_vain(net: Any, x: Tensor) -> Tensor:
    total = torch.zeros(len(x), 5)
    for step in x.unbind(1):
        state = torch.tanh(net.body(step))
        net.drop(state)
        total = total + net.second(state)
    return total


def _left_over(net: Any, x: Tensor) -> Tensor:
    carried, total = torch.zeros(len(x), 32), torch.zeros(len(x), 5)
    for step in x.unbind(1):
        total = total + net.second(carried)
        carried = net.drop(torch.tanh(net.body(step)))
    return total


case("DK207", "what the last step leaves over", _loop_in_vain, _left_over, _heads, 4, 3, 20)


# pooling, and shared masks

case("DK208", "the largest of many words", lambda net, x: net.second(net.drop(F.relu(net.body(x))).amax(1)),
     lambda net, x: net.second(net.drop(F.relu(net.body(x)).amax(1))), _heads, 4, 6, 20)


def _blocks() -> dict[str, nn.Module]:
    return {"a": nn.Linear(16, 16), "b": nn.Linear(16, 16), "c": nn.Linear(16, 16)}


def _kept(x: Tensor) -> Tensor:
    return (torch.rand(len(x), 1) > 0.25).float() / 0.75


def _one_mask(net: Any, x: Tensor) -> Tensor:
    mask = _kept(x) if net.training else torch.ones(len(x), 1)
    for layer in (net.a, net.b, net.c):
        x = x + mask * F.relu(layer(x))
    return x


def _own_masks(net: Any, x: Tensor) -> Tensor:
    for layer in (net.a, net.b, net.c):
        mask = _kept(x) if net.training else torch.ones(len(x), 1)
        x = x + mask * F.relu(layer(x))
    return x


def _one_layer(net: Any, x: Tensor) -> Tensor:
    mask = _kept(x) if net.training else torch.ones(len(x), 1)
    for _ in range(3):
        x = x + mask * F.relu(net.a(x))
    return x


case("DK208", "one mask for all branches", _one_mask, _own_masks, _blocks, 8, 16)
case("DK208", "one mask for one recurrent layer", _one_mask, _one_layer, _blocks, 8, 16)


# too narrow

case("DK209", "maps behind a normalisation", lambda net, x: net.head(net.drop(F.relu(net.few(x)))),
     lambda net, x: net.head(net.drop(F.relu(net.norm(net.many(x)))).mean((2, 3))[:, :2]),
     lambda: {"few": nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), "many": nn.Conv2d(3, 2, 3, padding=1),
              "norm": nn.GroupNorm(1, 2), "drop": nn.Dropout(0.4), "head": nn.Linear(2, 5)}, 4, 3, 4, 4)
case("DK209", "an output is DK203's matter", lambda net, x: net.wide(net.drop(net.narrow(x))),
     lambda net, x: net.drop(net.narrow(x)),
     lambda: {"narrow": nn.Linear(20, 2), "wide": nn.Linear(2, 7), "drop": nn.Dropout(0.4)}, 4, 20)


# the mean

class Few(nn.Module):
    """A mask of three numbers, drawn in evaluation too, or one that somebody else draws."""

    def __init__(self, scale: float, outside: bool = False) -> None:
        super().__init__()
        self.scale, self.outside, self.mask = scale, outside, torch.ones(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.outside and (self.training or self.scale == 1):
            self.mask = x.new_empty(3, 1).bernoulli_(0.9)
        return x * self.mask * self.scale if self.training or self.scale == 1 else x


def _drawn_outside(net: Any, x: Tensor) -> Tensor:
    if net.training:
        net.few.mask = torch.zeros(3, 1).bernoulli_(0.5) * 2
    return net.few(x)


case("DK301", "evaluation draws as well", lambda net, x: net.few(x), lambda net, x: net.always(x),
     lambda: {"few": Few(0.5), "always": Few(1)}, 4, 3, 5)
case("DK301", "drawn by another module", lambda net, x: net.bad(x), _drawn_outside,
     lambda: {"bad": Few(0.5), "few": Few(0.9, outside=True)}, 4, 3, 5)


# the recurrent state

def _cell() -> dict[str, nn.Module]:
    return {"gate": nn.Linear(12 + 16, 16), "new": nn.Linear(12 + 16, 16), "given": nn.Linear(12, 16),
            "back": nn.Linear(16, 16), "drop": nn.Dropout(0.2)}


def _own_cell(net: Any, x: Tensor, on_state: bool) -> Tensor:
    state = x.new_zeros(len(x), 16)
    for t in range(x.shape[1]):
        step = x[:, t]
        step, state = (step, net.drop(state)) if on_state else (net.drop(step), state)
        both = torch.cat((step, state), -1)
        gate = torch.sigmoid(net.gate(both))
        state = gate * state + (1 - gate) * torch.tanh(net.new(both))
    return state


def _deep_and_tied(net: Any, x: Tensor, again: bool) -> Tensor:
    state, given = torch.zeros(len(x), 16), net.given(x[:, 0])
    for _ in range(4):
        state = torch.tanh(net.back(net.drop(state)) + (given if again else 0.0))
    return state


case("DK303", "a cell of one's own", lambda net, x: _own_cell(net, x, True),
     lambda net, x: _own_cell(net, x, False), _cell, 4, 5, 12)
case("DK303", "a fixed point", lambda net, x: _own_cell(net, x, True),
     lambda net, x: _deep_and_tied(net, x, True), _cell, 4, 5, 12)
case("DK303", "shared weights in depth", lambda net, x: _own_cell(net, x, True),
     lambda net, x: _deep_and_tied(net, x, False), _cell, 4, 5, 12)


@pytest.mark.parametrize("name", CASES)
def test_the_mistake_is_told_and_its_twin_is_not(name: str) -> None:
    rule, bad, good, shape = CASES[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert found(rule, bad(), x)
    assert not found(rule, good(), x)


# single models

def test_dropping_channels_before_a_maximum_is_dropping_them_after_it() -> None:
    drop = nn.Dropout2d(0.4)
    x = torch.randn(6, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    before = F.max_pool2d(drop(x.relu()), 2)
    torch.manual_seed(1)
    assert torch.equal(before, drop(F.max_pool2d(x.relu(), 2)))
    run = Net(lambda net, x: net.head(F.max_pool2d(net.drop(net.stem(x).relu()), 2).mean((2, 3))), **_maps())
    assert not found("DK208", run, torch.randn(2, 3, 8, 8))


class _Stem(nn.Module):
    """Adds a convolution of the embedding to it, normalises and drops, before the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.norm, self.drop = nn.Conv1d(16, 16, 3, padding=1), nn.LayerNorm(16), nn.Dropout(0.1)
        self.block = Net(lambda net, x: x + net.a(x), **_blocks())

    def forward(self, x: Tensor) -> Any:
        x = x + self.place(x.transpose(1, 2)).transpose(1, 2)
        return self.block(self.drop(self.norm(x)))


def test_the_sum_before_the_blocks_is_an_embedding() -> None:
    assert not found("DK202", _Stem(), torch.randn(2, 6, 16))


def test_a_shortcut_with_weights_is_no_prediction() -> None:
    block = Net(lambda net, x: net.first(x) + net.drop(net.second(F.relu(net.body(x)))), **_heads())
    assert not found("DK203", block, torch.randn(4, 20))


def test_tokens_are_no_map() -> None:
    layers = {"patches": nn.Conv2d(3, 16, 4, 4), "drop": nn.Dropout(0.1), "convs": nn.Sequential(*(nn.Conv1d(16, 16, 1)
              for _ in range(3)))}
    net = Net(lambda net, x: net.convs(net.drop(net.patches(x).flatten(2).transpose(1, 2)).transpose(1, 2)), **layers)
    assert not found("DK205", net, torch.randn(2, 3, 16, 16))


def test_a_loop_tells_once() -> None:
    def run(net: Any, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 16)
        for step in x.unbind(1):
            state = torch.tanh(net.given(step) + net.back(F.dropout(state, 0.2, net.training)))
        return state
    assert found("DK303", Net(run, **_cell()), torch.randn(4, 6, 12)) == ["DK303"]
