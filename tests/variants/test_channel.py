import warnings

import pytest
import torch
import torch.nn.functional as F

import dropkit as dk
from dropkit.variants import channel
from dropkit.variants.channel import DimensionError

NAMES = ["dropout1d", "dropout2d", "dropout3d"]
names = pytest.mark.parametrize("name", NAMES)


def behaviour(function, x, **kwargs):
    """What a call does: the type of its error or the number of its warnings, and which elements drop together."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            runs = torch.stack([function(x, **kwargs) for _ in range(40)])
        except RuntimeError:
            return "RuntimeError", len(caught)
    patterns = {}
    for place, pattern in enumerate((runs != 0).reshape(40, -1).t().tolist()):
        patterns.setdefault(tuple(pattern), []).append(place)
    return sorted(patterns.values()), len(caught), {w.category for w in caught}


@names
@pytest.mark.parametrize("rank", range(7))
@pytest.mark.parametrize("mode", [{}, {"training": False}, {"p": 0.0}, {"inplace": True, "training": False}])
def test_ranks_are_read_as_torch_reads_them(name, rank, mode):
    # 40 runs at p = 0.5: two independent decisions out of at most 6 agree in all of them with probability below 1e-10.
    x = torch.ones((2, 3, 2, 1, 2, 2)[:rank])
    assert behaviour(getattr(channel, name), x, **mode) == behaviour(getattr(F, name), x, **mode)


@pytest.mark.parametrize(("name", "rank", "text"), [
    ("dropout2d", 3, "dropout2d: Received a 3D input"), ("dropout2d", 2, "dropout2d: Received a 2-D input"),
    ("dropout3d", 3, "dropout3d: Received a 3-D input"),
])
def test_warnings_begin_as_torch_begins_them(name, rank, text):
    for function in (getattr(channel, name), getattr(F, name)):
        with pytest.warns(UserWarning, match=text):
            function(torch.ones((2, 3, 4)[:rank]))


@pytest.mark.parametrize(("name", "shape"), [("dropout1d", (2, 3, 4, 5)), ("dropout1d", (3,)), ("dropout2d", (3,)),
                                             ("dropout3d", ())])
@pytest.mark.filterwarnings("ignore:dropout")
def test_impossible_ranks_are_both_kinds_of_error(name, shape):
    with pytest.raises(DimensionError, match=r"input.*; got \("):
        getattr(channel, name)(torch.ones(shape))
    assert issubclass(DimensionError, RuntimeError)
    assert issubclass(DimensionError, dk.InputError)


@pytest.mark.parametrize(("name", "shape", "channels"), [
    ("dropout1d", (4, 6, 7), 1), ("dropout2d", (4, 6, 3, 2), 1), ("dropout3d", (4, 6, 2, 3, 2), 1),
    ("dropout1d", (6, 7), 0), ("dropout3d", (6, 2, 3, 2), 0)])
def test_channels_last_are_the_same_channels(name, shape, channels):
    function = getattr(channel, name)
    x = torch.ones(shape)
    with dk.keyed(1):
        first = function(x, 0.5)
    with dk.keyed(1):
        last = function(x.movedim(channels, -1), 0.5, channel_dim=-1)
    assert torch.equal(last, first.movedim(channels, -1))
    assert 0 < int((first == 0).sum()) < x.numel()


def test_any_channel_dim():
    y = channel.dropout2d(torch.ones(4, 3, 5, 6), 0.5, channel_dim=2)
    assert torch.equal(y, y[:, :1, :, :1].expand_as(y))
    assert not torch.equal(y, y[:, :, :1].expand_as(y))


@pytest.mark.parametrize("bad", [0, 4, -4, -5, True, 1.0, None])
def test_wrong_channel_dims_are_refused(bad):
    with pytest.raises(dk.InputError, match="channel_dim is"):
        channel.dropout2d(torch.ones(2, 3, 4, 5), channel_dim=bad)


@names
def test_modules_pass_their_settings_on(name):
    kind = getattr(dk.nn, name.capitalize())
    shape = (4, 3, 2, 2, 5)[: {"1": 3, "2": 4, "3": 5}[name[-2]]]
    module = kind(0.5, channel_dim=-1)
    with dk.keyed(3):
        y = module(torch.ones(shape))
    with dk.keyed(3):
        assert torch.equal(y, getattr(channel, name)(torch.ones(shape), 0.5, channel_dim=-1))
    assert repr(module) == f"{name.capitalize()}(p=0.5, inplace=False, channel_dim=-1)"
    with pytest.raises(dk.InputError, match="channel_dim is"):
        kind(channel_dim=0)


@names
def test_masks_are_small(name):
    saved = []
    shape = (4, 8, 16, 16, 16)[: 2 + int(name[-2])]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        getattr(channel, name)(torch.ones(shape, requires_grad=True))
    assert sum(t.untyped_storage().nbytes() for t in saved) <= 64
