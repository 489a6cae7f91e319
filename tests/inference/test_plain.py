"""What a look at the code says is never wrong in the dangerous direction."""

import random

import pytest
import torch
import torch.nn.functional
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.inference.plain import makes_no_calls


def silu(x):
    """The user's own, under a name of torch's."""
    return F.dropout(x, 0.5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.scale, self.width = nn.Linear(4, 4), nn.Parameter(torch.ones(4)), 2

    def forward(self, x):
        y = F.relu(self.body(x)).view(len(x), self.width, -1).flatten(1)
        return torch.cat([x, y * self.scale], dim=1)


class Dense(Block):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])

    def forward(self, x):
        for layer in self.layers:
            x = x + torch.nn.functional.gelu(layer(x))
        return x


class Calls(Block):
    def forward(self, x):
        return F.dropout(self.body(x), 0.5, self.training)


class Shadowed(Block):
    def forward(self, x):
        return silu(self.body(x))


class OwnMethod(Block):
    def gelu(self, x):
        return F.dropout(x, 0.5)

    def forward(self, x):
        return self.gelu(self.body(x))


class OwnAttribute(Block):
    def __init__(self):
        super().__init__()
        self.gelu = lambda x: F.dropout(x, 0.5)

    def forward(self, x):
        return self.gelu(self.body(x))


class Looks(Block):
    def forward(self, x):
        return self.body(x) * 2 if self.training else self.body(x)


class Draws(Block):
    def forward(self, x):
        return self.body(x) + torch.randn_like(x)


class Shakes(Block):
    def forward(self, x):
        return self.body(x) * random.random()


class Closure(Block):
    def forward(self, x):
        return next(map(lambda y: F.dropout(y, 0.5), [x]))


class Super(Block):
    def forward(self, x):
        return super().forward(x)


class Below(Block):
    """Has its forward from above."""


class Overrides(Block):
    """Has a method of that name, which its forward does not call."""

    def gelu(self, x):
        return F.dropout(x, 0.5)


class CallsItself(Block):
    def __call__(self, x):
        return F.dropout(super().__call__(x), 0.5)


@pytest.mark.parametrize("kind", [Block, Dense, Below, Overrides])
def test_plain_code_is_known(kind):
    assert makes_no_calls(kind())


@pytest.mark.parametrize("kind", [Calls, Shadowed, OwnMethod, OwnAttribute, Looks, Draws, Shakes, Closure, Super, CallsItself])
def test_anything_else_counts_as_a_call(kind):
    assert not makes_no_calls(kind())


def test_hooks_and_assigned_forwards_count():
    hooked, assigned = Block(), Block()
    hooked.register_forward_hook(lambda *_: None)
    assigned.forward = lambda x: x
    assert not makes_no_calls(hooked)
    assert not makes_no_calls(assigned)


def test_a_plain_model_is_not_run_to_find_sites():
    ran = []
    model = nn.Sequential(Block(), nn.Dropout(0.5))
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: ran.append(module.training))
    try:
        dk.mc_predict(model.eval(), torch.ones(2, 4), 3, method="loop")
    finally:
        handle.remove()
    assert ran.count(True) == 3  # the dropout module, once a pass
