"""Scales in the code between layers are measured, and what only looks like one is not."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.inference.flows import flow_factors

Step = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two layers, and what a test does between them."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.a, self.b, self.drop, self.norm, self.step = nn.Linear(16, 32), nn.Linear(32, 4), nn.Dropout(0.5), nn.GELU(), step
        self.p, self.soft = nn.Parameter(torch.ones(32)), nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.b(self.step(self, F.relu(self.a(x))))
        return y


def _x() -> Tensor:
    return torch.randn(32, 16, generator=torch.Generator().manual_seed(0))


def _mask(h: Tensor) -> Tensor:
    return torch.rand_like(h) > 0.5


def _in_place(net: Net, h: Tensor) -> Tensor:
    h = h.clone()
    if net.training:
        h.mul_(h.new_empty(h.shape).bernoulli_(0.5)).div_(0.25)
    return h


def _written(net: Net, h: Tensor) -> Tensor:
    h = h.clone()
    if net.training:
        h[:, :8] = 0
    return h


def _written_mask(net: Net, h: Tensor) -> Tensor:
    mask = torch.rand_like(h)
    mask[mask < 0.5] = 0
    mask[mask >= 0.5] = 1
    return h.contiguous() * mask if net.training else h


def _data(net: Net, h: Tensor) -> Tensor:
    h = h.clone()
    if net.training:
        h.data = F.gelu(4 * h)
    return h


WRONG: dict[str, tuple[Step, float]] = {
    "twice": (lambda net, h: net.drop(h) / 0.5 if net.training else net.drop(h), 2.0),
    "forgotten": (lambda net, h: h * _mask(h) if net.training else h, 0.5),
    "by bernoulli": (lambda net, h: h * torch.bernoulli(torch.full_like(h, 0.2)) if net.training else h, 0.2),
    "by where": (lambda net, h: torch.where(_mask(h), h, 0.0) if net.training else h, 0.5),
    "by masked_fill": (lambda net, h: h.masked_fill(_mask(h), 0) if net.training else h, 0.5),
    "in place": (_in_place, 2.0),
    "by a mask that is written": (_written_mask, 0.5),
    "twice by a call": (lambda net, h: F.dropout(h, 0.5, net.training) * (2 if net.training else 1), 2.0),
    "in evaluation too": (lambda net, h: F.dropout(h, 0.5, net.training) * (1 if net.training else 0.5), 2.0),
    "twice in a branch": (lambda net, h: h + net.drop(h) * (2 if net.training else 1), 1.5),
    "with a constant in both modes": (lambda net, h: (net.drop(h) + net.p) / (0.5 if net.training else 1.0), 2.0),
    "then seen otherwise": (lambda net, h: (h * _mask(h) if net.training else h).view(32, 4, 8).transpose(1, 2).reshape(32, 32),
                            0.5),
}
RIGHT: dict[str, Step] = {
    "a call": lambda net, h: F.dropout(h, 0.5, net.training),
    "a mask": lambda net, h: h * _mask(h) / 0.5 if net.training else h,
    "classic": lambda net, h: h * _mask(h) if net.training else h * 0.5,
    "what is not linear": lambda net, h: F.gelu(4 * F.dropout(h - 0.5, 0.5, net.training)),
    "noise": lambda net, h: h + torch.randn_like(h) if net.training else h,
    "a branch": lambda net, h: h + F.dropout(net.norm(h), 0.5, net.training),
    "a layer that is skipped": lambda net, h: h if net.training and random.random() < 0.5 else 3 * net.norm(h),
    "mixed examples": lambda net, h: 0.5 * h + 0.5 * h[torch.randperm(len(h))] if net.training else h,
    "half of the examples rolled": lambda net, h: h.roll(1, 0) if net.training else h,
    "a statistic of the batch": lambda net, h: F.batch_norm(h, h.mean(0), h.var(0), training=net.training),
    "a sample": lambda net, h: h + torch.exp(net.norm(h)) * torch.randn_like(h) if net.training else h,
    "squares": lambda net, h: F.dropout(h, 0.5, net.training) ** 2,
    "products": lambda net, h: F.dropout(h, 0.5, net.training) * (F.dropout(h, 0.5, net.training) + net.p),
    "written in place": _written,
    "other data": _data,
    "a token in place of what is masked": lambda net, h: h * _mask(h) + net.p * ~_mask(h) if net.training else h,
    "a token by where": lambda net, h: torch.where(_mask(h), h, net.p) if net.training else h,
    "a number by where": lambda net, h: torch.where(_mask(h), h, 3.0) if net.training else h,
    "a margin": lambda net, h: h - 0.5 if net.training else h,
    "smoothed": lambda net, h: 0.9 * h + 0.1 * net.p if net.training else h,
    "a temperature": lambda net, h: net.soft(h / 4 if net.training else h),
    "alpha": lambda net, h: F.alpha_dropout(h, 0.3, net.training),
    "always on": lambda net, h: 2 * F.dropout(h, 0.5),
    "of dropkit": lambda net, h: dk.functional.dropout(h, 0.5, net.training),
    "softmax": lambda net, h: F.dropout(torch.softmax(h, -1), 0.5, net.training) @ torch.ones(32, 32),
    "a layer in training alone": lambda net, h: h + 0 * net.norm(h) if net.training else h,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_scale_between_layers_is_measured(name: str) -> None:
    step, factor = WRONG[name]
    net = Net(step)
    report = dk.freeze_check(net, _x())
    (found,) = report.flows
    assert found.name == "b"
    assert found.low - 1e-5 <= factor <= found.high + 1e-5
    assert not report.ok
    assert "what 'b' is given: training's mean is" in str(report)
    (told,) = dk.audit(net, _x(), select=["DK301"]).findings
    assert (told.place.module, told.place.code) == ("b", "y: Tensor = self.b(self.step(self, F.relu(self.a(x))))")


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_or_cannot_be_told_is_not_flagged(name: str) -> None:
    random.seed(0)
    net = Net(RIGHT[name])
    assert all(found.matches for found in dk.freeze_check(net, _x()).flows)
    assert not dk.audit(net, _x(), select=["DK301"]).findings


def test_blocks_in_blocks_are_followed_and_layers_are_put_back() -> None:
    net = nn.Sequential(nn.Linear(16, 16), Net(WRONG["forgotten"][0]), nn.ReLU())
    with torch.no_grad():
        assert [found.name for found in flow_factors(net.eval(), _x(), 100, level=0.999)] == ["1.b"]
    assert not any("forward" in vars(module) for module in net.modules())


def test_a_layer_that_changes_its_argument_is_not_taken_for_a_scale() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.last = nn.ReLU(inplace=True), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = x + 0
            self.act(h)
            y: Tensor = self.last(h)
            return y

    assert dk.freeze_check(Overwrites(), _x()).flows == ()
