import math

import pytest
import torch

import dropkit as dk
from dropkit.kernels.dispatch import backends
from dropkit.variants.locked import LockedDropout, locked_dropout

FALSE_ALARM = 1e-6


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_mask_is_shared_over_time_and_nothing_else(batch_first):
    # The reference implementation knows the time-first layout only, and shares the mask over the batch in the other.
    time, n, features = 7, 40, 30
    torch.manual_seed(0)
    y = locked_dropout(torch.ones((n, time, features) if batch_first else (time, n, features)), 0.5, batch_first=batch_first)
    y = y.transpose(0, 1) if batch_first else y
    assert torch.equal(y, y[:1].expand_as(y))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    masks = y[0] != 0
    assert len({tuple(row) for row in masks.tolist()}) == n  # two of 40 rows of 30 fair coins agree with p < 1e-6
    bound = math.sqrt(math.log(2 / FALSE_ALARM) / (2 * masks.numel()))  # Hoeffding
    assert abs(float(masks.double().mean()) - 0.5) < bound


def test_the_layouts_have_the_same_masks():
    x = torch.randn(5, 3, 4)
    with dk.keyed(1):
        time_first = locked_dropout(x, 0.5)
    with dk.keyed(1):
        assert torch.equal(locked_dropout(x.transpose(0, 1), 0.5, batch_first=True), time_first.transpose(0, 1))


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sequence(batch_first):
    x = torch.randn(5, 4)
    with dk.keyed(1):
        y = locked_dropout(x, 0.5, batch_first=batch_first)
    with dk.keyed(1):
        assert torch.equal(locked_dropout(x[:, None], 0.5)[:, 0], y)
    assert torch.equal(y == 0, (y == 0)[:1].expand_as(y))


def test_the_gradient_uses_the_mask_of_the_forward_pass():
    x = torch.ones(5, 3, 40, requires_grad=True)
    y = locked_dropout(x, 0.3)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_modules_pass_their_settings_on():
    x = torch.ones(3, 5, 40)
    with dk.keyed(1):
        y = LockedDropout(0.3, batch_first=True)(x)
    with dk.keyed(1):
        assert torch.equal(y, locked_dropout(x, 0.3, batch_first=True))
    assert repr(LockedDropout()) == "LockedDropout(p=0.5)"
    assert repr(LockedDropout(batch_first=True)) == "LockedDropout(p=0.5, batch_first=True)"


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_other_ranks_are_refused(shape, training):
    with pytest.raises(dk.InputError, match="batch of sequences with 3 dimensions"):
        locked_dropout(torch.ones(shape), 0.5, training)


def test_no_more_than_the_small_mask_is_saved():
    saved = []
    bytes_of_mask = 0 if backends()[0].backend == "native" else 16 * 512
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        locked_dropout(torch.ones(16, 16, 512, requires_grad=True))
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 64 + bytes_of_mask
