"""What the probe sees, and what it says it did not."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.audit import probe_pass
from dropkit.audit.audit import audit
from dropkit.audit.deadline import Unfinished, ended_after
from dropkit.audit.probe import observe
from dropkit.core.errors import InputError


def test_dropkit_modules_are_sites_with_their_operation() -> None:
    seen = observe(nn.Sequential(nn.Linear(4, 4), dk.nn.DropPath(0.2)), torch.ones(3, 4))
    (site,) = seen.site_calls("train")
    assert (site.name, site.p, site.active, site.op.parents[0].name) == ("1", 0.2, True, "linear")
    (quiet,) = seen.site_calls("eval")
    assert (quiet.active, quiet.op.name, [op.name for op in quiet.op.parents]) == (False, "drop_path", ["linear"])


@pytest.mark.parametrize(("layer", "before"), [
    (dk.nn.DropBlock2d(0.2), "conv2d"), (dk.nn.GaussianDropout(0.2), "conv2d"), (dk.nn.Dropout2d(0.2), "conv2d")],
    ids=lambda value: type(value).__name__)
def test_a_site_of_several_operations_is_one(layer: nn.Module, before: str) -> None:
    """Masks are drawn and shaped within it: what it is given is what the layer before made."""
    seen = observe(nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten()), torch.ones(3, 1, 12, 12))
    (site,) = seen.site_calls("train")
    assert [op.name for op in site.op.parents] == [before]
    assert site.op.parents[0].users == [site.op]
    assert [op.name for op in site.op.users] == ["flatten"]


class _Twice(nn.Dropout):
    """A site around another site, whose output it returns."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.inner = dk.nn.GaussianDropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.relu())


def test_a_site_within_a_site_stays_its_parent() -> None:
    inner, outer = observe(nn.Sequential(nn.Linear(4, 4), _Twice()), torch.ones(3, 4)).site_calls("train")
    assert (inner.name, outer.name) == ("1.inner", "1")
    assert outer.op.parents == (inner.op,)
    assert [op.name for op in inner.op.parents] == ["relu"]


class _Recurrent(nn.Module):
    """A recurrent net, which ``mode`` may put into another mode as it runs."""

    def __init__(self, layer: nn.Module, mode: bool | None = None) -> None:
        super().__init__()
        self.layer, self.head, self.mode = layer, nn.Linear(4, 2), mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode is not None:
            self.layer.train(self.mode)
        return self.head(self.layer(x)[0])


@pytest.mark.parametrize("layer", [dk.nn.ZoneoutLSTM(4, 4), dk.nn.VariationalGRU(4, 4, 2, recurrent_p=0.3),
                                   dk.nn.RecurrentDropoutRNN(4, 4, recurrent_p=0.2)], ids=lambda layer: type(layer).__name__)
def test_recurrent_layers_with_sites_leave_no_gap(layer: nn.Module) -> None:
    """Their children hold rates and never run; the layer is the site."""
    found = audit(_Recurrent(layer), torch.randn(3, 2, 4))
    assert found.clean, (found.findings, found.coverage.gaps)
    assert found.coverage.sites == ("layer",)


def test_recurrent_sites_that_drop_in_evaluation_are_told() -> None:
    found = audit(_Recurrent(dk.nn.ZoneoutLSTM(4, 4), mode=True), torch.randn(3, 2, 4)).findings
    assert [(finding.rule, finding.message) for finding in found] == [("DK101", "layer drops in evaluation at rate 0.5")]


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


@pytest.mark.filterwarnings("error", "ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_part_is_a_gap_and_the_rest_is_measured() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Linear(32, 32), nn.Dropout(0.5)))
    result = audit(nn.Sequential(scripted, _Forgets(), nn.Linear(32, 3)), torch.ones(4, 32))
    assert [found.place.module for found in result.findings if found.rule == "DK301"] == ["1"]
    assert {gap.why for gap in result.coverage.gaps} == {"compiled by torch.jit: only its randomness is seen"}


class _Forgets(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (torch.rand_like(x) > 0.5) if self.training else x


def test_a_model_without_values_is_refused() -> None:
    for model, x in ((nn.Linear(2, 2), torch.ones(1, 2, device="meta")), (nn.Linear(2, 2).to("meta"), torch.ones(1, 2))):
        with pytest.raises(InputError, match="on the meta device"):
            audit(model, x)


def test_a_model_that_raises_is_not_clean() -> None:
    found = audit(_Raises(), torch.ones(2))
    assert not found.clean
    assert not found.coverage.passes


class _Leaves(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if self.training else sys.exit(0)  # type: ignore[return-value]


def test_a_model_that_calls_sys_exit_is_not_clean() -> None:
    result = audit(nn.Sequential(_Leaves(2, 2), nn.Dropout(0.2)), torch.ones(2, 2))
    assert "the model raises SystemExit: 0" in [gap.why for gap in result.coverage.gaps]


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


class _Spins(nn.Module):
    """Loops in Python alone, in a mode, and catches what it can."""

    def __init__(self, training: bool) -> None:
        super().__init__()
        self.when = training

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while self.training == self.when:
            with contextlib.suppress(Exception):
                sum(range(100))
        return x


@pytest.mark.parametrize(("training", "ran"), [(True, []), (False, ["train"])])
def test_a_loop_without_torch_is_not_covered(training: bool, ran: list[str]) -> None:
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    seen = observe(_Spins(training), torch.ones(2), limit=0.01)
    mode = "train" if training else "eval"
    assert (seen.gaps[0].what, seen.gaps[0].why) == (f"pass in {mode} and all after it", "it runs for longer than 0.01 s")
    assert [mode for mode in seen.passes if seen.ran(mode)] == ran
    assert torch.overrides._len_torch_function_stack() == 0
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers
    assert torch.is_grad_enabled()
    for watch in threading.enumerate():
        if watch.name == "dropkit-deadline":
            watch.join(30)  # it was told to stop
            assert not watch.is_alive()


def test_a_loop_is_ended_in_any_thread() -> None:
    gaps: list[str] = []

    def look() -> None:
        gaps.extend(gap.why for gap in audit(_Spins(True), torch.ones(2), limit=0.01).coverage.gaps)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(60)
    assert gaps[0] == "it runs for longer than 0.01 s"


def test_what_ends_in_time_is_not_interrupted_later() -> None:
    for _ in range(200):  # the time is over about when the block is
        try:
            with ended_after(0.001):
                end = time.monotonic() + 0.001
                while time.monotonic() < end:
                    pass
        except Unfinished:
            pass
    time.sleep(0.01)


def test_a_limit_is_above_zero() -> None:
    with pytest.raises(InputError, match="above 0"):
        audit(nn.Linear(2, 2), torch.ones(1, 2), limit=0)


class _Attends(nn.Module):
    """Passes the rate of a module to attention, and the weights of another to a function."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.drop, self.out, self.idle = nn.Dropout(0.1), _Doubled(4, 4), _Doubled(4, 4)
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.scaled_dot_product_attention(x, x, x, dropout_p=self.p if self.training else 0.0)
        return F.linear(y, self.out.weight, self.out.bias)


class _Doubled(nn.Linear):
    """A layer that is not torch's own."""


@pytest.mark.parametrize(("p", "gaps"), [(0.1, ["idle"]), (0.2, ["drop", "idle"])])
def test_a_module_whose_parent_does_its_work_is_covered(p: float, gaps: list[str]) -> None:
    seen = observe(_Attends(p), torch.ones(2, 1, 3, 4))
    assert [gap.what for gap in seen.gaps] == [f"module {name!r}" for name in gaps]


class _Straight(torch.autograd.Function):
    """Rounds, and passes the gradient on."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _Applies(nn.Linear):
    def __init__(self, what: Callable[[torch.Tensor], Any]) -> None:
        super().__init__(4, 4)
        self.what = what

    def forward(self, x: torch.Tensor) -> Any:
        y = super().forward(x)
        return self.what(y) if self.training else y


class _Slots:
    __slots__ = ("y",)

    def __init__(self, y: torch.Tensor) -> None:
        self.y = y


@pytest.mark.parametrize(("what", "gaps"), [
    (_Straight.apply, ["autograd function '_Straight'"]),
    (lambda y: y * int(os.urandom(8).hex(), 16), ["outputs in training"]),  # as a generator written in C++ would
    (_Slots, ["what the model returns"]),
    (lambda y: {"a": [y, (SimpleNamespace(b=y),)]}, []),
    (lambda y: y * torch.rand(4) * random.random() * float(np.random.rand()), [])],
    ids=["custom autograd", "a number from elsewhere", "a closed object", "nested", "seeded"])
def test_what_cannot_be_seen_is_not_covered(what: Callable[[torch.Tensor], Any], gaps: list[str]) -> None:
    seen = observe(_Applies(what), torch.ones(2, 4))
    assert [gap.what for gap in seen.gaps] == gaps


def test_numpys_random_numbers_are_told() -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(np.random.rand())

    (found,) = audit(Net(), torch.ones(2, 4), select=["DK103"]).findings
    assert found.evidence["operator"] == "numpy random"


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
