import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dropkit as dk
from dropkit.core.intercept import THREAD
from dropkit.surgery.watch import Watch

X = torch.ones(4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.inner = nn.Dropout(0.1), nn.Sequential(dk.nn.Dropout(0.2))

    def forward(self, x):
        return F.dropout(self.inner(self.drop(F.dropout(x, 0.3))), 0.4)


def watched(model, off=False):
    seen = []

    def notice(frame, key, call, p):
        seen.append((frame.path, key, p))
        return off

    return Watch(model, notice), seen


def test_calls_belong_to_the_innermost_module():
    watch, seen = watched(nn.Sequential(Net()))
    with watch:
        watch.model(X)
    assert seen == [("0", "dropout", 0.3), ("0.drop", "", 0.1), ("0", "dropout#1", 0.4)]


def test_counts_begin_anew_in_each_forward():
    watch, seen = watched(Net())
    with watch:
        watch.model(X)
        watch.model(X)
    assert [key for _, key, _ in seen if key] == ["dropout", "dropout#1"] * 2


def test_what_is_refused_does_not_drop():
    watch, _ = watched(nn.Sequential(Net().eval()), off=True)
    with watch:
        assert torch.equal(watch.model(X), X)


def test_nothing_is_seen_outside_forwards_and_outside_the_block():
    watch, seen = watched(Net())
    with watch:
        F.dropout(X)
        dk.functional.dropout(X)
    watch.model(X)
    assert seen == []


def test_other_functions_pass():
    watch, seen = watched(nn.Linear(4, 4))
    with watch:
        y = watch.model(X)
    assert torch.equal(y, watch.model(X))
    assert seen == []


def test_every_watcher_is_told():
    model = Net()
    (outer, first), (inner, second) = watched(model, off=True), watched(model)
    with outer, inner:
        model(X)
    assert first == second
    assert len(first) == 3


def test_a_function_inside_a_function_is_one_call():
    class Samples(nn.Module):
        def forward(self, x):
            return dk.functional.multi_sample_dropout(x, lambda v: F.dropout(v, 0.9), 0.5, 2, average="logits")

    watch, seen = watched(Samples())
    with watch:
        watch.model(X)
    assert seen == [("", "multi_sample_dropout", 0.5)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_forwards_come_back_after_an_error(error):
    class Bad(nn.Module):
        def forward(self, x):
            raise error

    model = nn.Sequential(Net(), Bad())
    own = model[0].forward = model[0].forward  # a forward of its own on the instance stays
    watch, _ = watched(model)
    with pytest.raises(error), watch:
        model(X)
    assert "forward" not in vars(model[1])
    assert vars(model[0])["forward"] is own
    assert (THREAD.interceptor, THREAD.watchers) == (None, ())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_scripted_parts_are_opaque():
    traced = torch.jit.trace(nn.Linear(4, 4), X)
    watch, seen = watched(nn.Sequential(traced, Net()))
    with watch:
        watch.model(X)
    assert len(seen) == 3


def test_data_parallel_runs_on_one_device():
    """Replicas of a module on other devices would run the module itself."""
    model = nn.DataParallel(Net())
    model.device_ids = [0, 1]  # as on a machine with two
    watch, _ = watched(model)
    with watch:
        assert model.device_ids == [0]
    assert model.device_ids == [0, 1]
