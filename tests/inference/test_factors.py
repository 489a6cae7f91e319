"""How many passes a factor takes, and which modules take none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dropkit.inference.factors import Factor, module_factors


class _Counting(nn.Module):
    """Keeps with probability a half and multiplies by ``scale``; counts its passes in training."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.passes = scale, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        return x * (torch.rand_like(x) > 0.5) * self.scale if self.training else x


def _factor(module: nn.Module, near: float, x: torch.Tensor | None = None) -> Factor:
    torch.manual_seed(0)
    with torch.no_grad():
        varying, factors = module_factors(nn.Sequential(module).eval(), torch.ones(100, 1000) if x is None else x, 100,
                                          level=0.999, near=near)
    assert varying == []
    return factors[0]


@pytest.mark.parametrize(("scale", "near", "passes"), [
    (2.0, 0.0, 101),  # one more tells that it acts
    (2.0, 0.03, 17),  # 16 passes over 100,000 values: a standard error of 1 / sqrt(1,600,000), so that 0.03 is 38 of them
    (1.0, 0.03, 101)])
def test_passes_end_early_only_where_the_factor_is_surely_near_one(scale: float, near: float, passes: int) -> None:
    counting = _Counting(scale)
    found = _factor(counting, near)
    assert counting.passes == passes
    assert abs(found.factor - scale / 2) < 0.03
    assert found.matches == (scale == 2.0)


def test_few_values_take_all_the_passes() -> None:
    counting = _Counting(2.0)
    _factor(counting, 0.03, torch.ones(1, 4))  # a standard error of 0.05 after all the passes
    assert counting.passes == 101


def test_a_layer_of_torch_is_measured_if_somebody_hooked_into_it() -> None:
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda part, args, y: y / 2 if part.training else y)
    assert _factor(hooked, 0.0, torch.ones(2, 4)).factor == pytest.approx(0.5)
    with torch.no_grad():
        assert module_factors(nn.Sequential(nn.Linear(4, 4)).eval(), torch.ones(2, 4), 100, level=0.999) == ([], [])
