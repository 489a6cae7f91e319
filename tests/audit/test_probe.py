"""What the probe sees, and what it says it did not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.audit.audit import audit
from dropkit.audit.probe import observe


def test_dropkit_modules_are_sites_with_their_operation() -> None:
    seen = observe(nn.Sequential(nn.Linear(4, 4), dk.nn.DropPath(0.2)), torch.ones(3, 4))
    (site,) = seen.site_calls("train")
    assert (site.name, site.p, site.active, site.op.parents[0].name) == ("1", 0.2, True, "linear")
    (quiet,) = seen.site_calls("eval")
    assert (quiet.active, quiet.op.name, [op.name for op in quiet.op.parents]) == (False, "drop_path", ["linear"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_traced_mode_is_randomness_in_evaluation() -> None:
    traced = torch.jit.trace(  # type: ignore[no-untyped-call]
        nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(3, 4), check_trace=False)
    found = audit(nn.Sequential(traced), torch.ones(3, 4))
    assert [finding.rule for finding in found.findings] == ["DK104", "DK103"]
    assert any("torch.jit" in gap.why for gap in found.coverage.gaps)


class _Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")


def test_a_model_that_raises_is_not_clean() -> None:
    found = audit(_Raises(), torch.ones(2))
    assert not found.clean
    assert not found.coverage.passes


def test_the_model_is_untouched() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    observe(model, torch.randn(5, 4))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_the_variance_before_batch_norm_grows_by_one_over_q() -> None:
    x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    seen = observe(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)), x)
    train, quiet = seen.batch_norm_inputs["1"]  # the second moment grows to E[x^2] / q, the mean stays 0
    # given x, a term x^2 m / q^2 has the variance 3 (1 - q) / q^3 = 12, over the variance 1 of x: ten standard errors of
    # the mean of 16 * 4000 terms are below the bound, so a false alarm is rarer than one in a million seeds
    assert torch.allclose(train / quiet, torch.full((3,), 2.0).double(), atol=2 * 5 * 20 ** 0.5 / (16 * 4000) ** 0.5)
    assert seen.gradients == {"1.weight", "1.bias"}
