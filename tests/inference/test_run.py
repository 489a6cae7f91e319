"""Chunks, and the choice between passes at once and in turn."""

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.inference.run import Runner
from dropkit.inference.single import Pass
from dropkit.variants.dropout import dropout


class Counted(nn.Module):
    """Multiplies by a mask of so many elements, and knows how often it was called."""

    def __init__(self, size):
        super().__init__()
        self.size, self.calls, self.drop = size, 0, nn.Identity()

    def forward(self, x):
        self.calls += 1
        return self.drop(dropout(torch.ones(self.size), 0.5))


def chunks(runner, passes=10):
    return [len(chunk) for chunk in runner.run(Pass(runner.model, torch.ones(1)), torch.arange(passes))]


@pytest.mark.parametrize("method", ["auto", "vmap"])
def test_a_chunk_stays_within_memory(method):
    model = Counted(1000)  # 4,000 bytes, thirteen times alive
    runner = Runner(model, method, 3 * 52_000)
    assert chunks(runner) == [3, 3, 3, 1]
    assert model.calls == 5  # the first chunk was begun with all ten
    assert chunks(runner) == [3, 3, 3, 1]
    assert model.calls == 9
    assert runner.method == "vmap"


def test_at_least_one_pass_runs():
    assert chunks(Runner(Counted(1000), "vmap", 0)) == [1] * 10


def test_large_tensors_run_in_turn_unless_asked_for_otherwise():
    runner = Runner(Counted(1 << 18), "auto", 1 << 30)  # a mebibyte
    assert chunks(runner) == [1] * 10
    assert (runner.method, runner.why) == ("loop", "the tensors after the first site that acts are large")
    few = Runner(Counted(1 << 18), "auto", 1 << 30)
    assert chunks(few, passes=2) == [2]
    asked = Runner(Counted(1 << 18), "vmap", 1 << 30)
    assert chunks(asked) == [10]
    assert asked.method == "vmap"


def test_one_forward_serves_all_passes():
    counted = []
    trunk = nn.Linear(4, 4)
    trunk.register_forward_hook(lambda *_: counted.append(1))
    model = nn.Sequential(trunk, nn.Dropout(0.5), nn.Linear(4, 2))
    dk.mc_predict(model, torch.ones(3, 4), 100)
    assert len(counted) == 1 + 2  # and two to find functional calls and other randomness, which a hook may make


def test_autocast_holds_for_every_pass():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)), torch.ones(3, 4)
    with torch.autocast("cpu"):
        found = dk.mc_predict(model, x, 5, samples=True)
        assert (found.method, found.samples.dtype) == ("loop", torch.bfloat16)
        assert "autocast" in found.why
        with pytest.raises(InputError, match="autocast does not reach"):
            dk.mc_predict(model, x, 5, method="vmap")
