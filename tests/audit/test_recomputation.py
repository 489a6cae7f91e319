"""Masks that a backward pass draws again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import dropkit as dk
from dropkit.audit.audit import audit


class _Again(torch.autograd.Function):
    """Runs a function again in the backward pass, with the state of the generator or without."""

    @staticmethod
    def forward(ctx: Any, run: Callable[[Tensor], Tensor], keep: bool, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.run, ctx.parameters, ctx.state = run, parameters, torch.get_rng_state() if keep else None
        ctx.save_for_backward(x)
        with torch.no_grad():
            return run(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        with torch.random.fork_rng(enabled=ctx.state is not None), torch.enable_grad():
            if ctx.state is not None:
                torch.set_rng_state(ctx.state)
            y = ctx.run(ctx.saved_tensors[0].detach())
        return None, None, None, *torch.autograd.grad(y, ctx.parameters, grad)


class _Net(nn.Module):
    def __init__(self, keep: bool, drop: Callable[[], nn.Module] | None) -> None:
        super().__init__()
        self.keep, self.drop, self.layer = keep, drop() if drop is not None else None, nn.Linear(32, 32)

    def block(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return F.dropout(x, 0.3, self.training) if self.drop is None else self.drop(x)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Again.apply(self.block, self.keep, x, *self.parameters())  # type: ignore[no-untyped-call]
        return out


DROPS: dict[str, Callable[[], nn.Module] | None] = {
    "torch": lambda: nn.Dropout(0.3), "torch in place": lambda: nn.Dropout(0.3, inplace=True),
    "dropkit": lambda: dk.nn.Dropout(0.3),
    "channels": lambda: nn.Sequential(nn.Unflatten(1, (8, 4)), nn.Dropout1d(0.3), nn.Flatten()), "a call": None}


@pytest.mark.parametrize("name", DROPS)
def test_a_mask_drawn_again_is_told_unless_it_is_the_same(name: str) -> None:
    for keep, expected in ((False, ["DK105"]), (True, [])):
        result = audit(_Net(keep, DROPS[name]), torch.randn(4, 32), select=["DK105"])
        assert [found.rule for found in result.findings] == expected
        assert [gap.what for gap in result.coverage.gaps] == ["autograd function '_Again'"]
        if expected:
            assert "drop" in result.findings[0].place.code


def test_the_checkpoint_of_torch_keeps_the_state() -> None:
    body = nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.3))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Any:
            return checkpoint(self.body, x, use_reentrant=False)

    assert audit(Net(), torch.randn(4, 32), select=["DK105"]).clean
