"""What the probe sees, and what it says it did not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.audit import probe_pass
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


def test_the_random_states_of_devices_in_use_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.tensor([1, 2], dtype=torch.uint8)]  # of a device that counts its seedings

    seeded: list[int] = []

    def seed(number: int) -> None:
        seeded.append(number)
        states[0] = states[0] + 1

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(states))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda given: states.__setitem__(slice(None), given))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed)
    audit(nn.Dropout(0.5), torch.ones(2, 30))
    assert set(seeded) == {0, 1}
    assert torch.equal(states[0], torch.tensor([1, 2], dtype=torch.uint8))


class _Part(nn.Module):
    """A layer that passes over two of its modules, one of which is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.left, self.parts = nn.Linear(4, 4), nn.Dropout(0.5), nn.ModuleList([nn.Identity()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.used(x)
        return torch.nn.functional.dropout(out, 0.5)


def test_what_repeats_in_each_layer_is_told_once() -> None:
    result = audit(nn.Sequential(*(_Part() for _ in range(6))), torch.ones(2, 4), select=["DK101"])
    assert [(gap.what, gap.why) for gap in result.coverage.gaps] == [("6 modules '*.left'", "it did not run")]
    assert (result.coverage.modules, result.coverage.total) == (1 + 6 * 2, 1 + 6 * 4)
    (found,) = result.findings
    assert (found.place.module, found.evidence["p"]) == ("0", 0.5)
    assert found.message.endswith("; so do 1, 2, 3 and 2 more")


def test_layers_of_other_rates_are_told_apart() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Dropout(p) for p in (0.1, 0.1, 0.4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = part(part(x)).matmul(torch.ones(40, 40))
            return x

    found = audit(Net(), torch.ones(2, 40), select=["DK206"]).findings
    assert sorted((finding.place.module, finding.evidence["p"]) for finding in found) == [
        ("parts.0", pytest.approx(0.19)), ("parts.2", pytest.approx(0.64))]


class _Endless(nn.Module):
    """Waits for its data to change, and catches what it can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while True:
            try:
                with torch.no_grad():
                    if x.sum() < 0:
                        return x
            except Exception:
                pass


def test_a_model_that_never_ends_is_not_covered() -> None:
    seen = observe(_Endless(), torch.ones(2), limit=0.05)
    (gap, *_) = seen.gaps
    assert (gap.what, gap.why) == ("pass in train and all after it", "it runs for longer than 0.05 s")
    assert list(seen.passes) == ["train"]
    assert seen.ran("train") is None
    assert torch.is_grad_enabled()


def test_a_pass_of_too_many_operations_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_pass, "_MOST", 200)
    (gap, *_) = observe(_Endless(), torch.ones(2)).gaps
    assert gap.why == "it has more than 200 operations"


class _Fails(nn.Module):
    """Evaluation that works once."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += not self.training
        if self.calls > 1:
            raise RuntimeError("no")
        return x


def test_a_second_run_that_raises_is_no_randomness() -> None:
    found = audit(_Fails(), torch.ones(2))
    assert not found.findings
    assert any(gap.what == "outputs in eval" for gap in found.coverage.gaps)
