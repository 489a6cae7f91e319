"""Under ``keyed(rows=...)`` a batch has its slice of the masks of all the data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dropkit as dk
import dropkit.functional as F
from dropkit.core.streams import FRESH, ROWS, SAME, rows_of, shard_of
from dropkit.kernels import dispatch

N = 12
KEY = torch.arange(N * 6 * 4 * 4, dtype=torch.float32).view(N, 6, 4, 4) / 100 + 1

SLICED = {
    "dropout": lambda x: F.dropout(x, 0.4),
    "dropout in place": lambda x: F.dropout(x.clone(), 0.4, inplace=True),
    "dropout, classic": lambda x: F.dropout(x, 0.4, scaling="classic"),
    "dropout_add": lambda x: F.dropout_add(x, x, 0.4),
    "dropout, bfloat16": lambda x: F.dropout(x.bfloat16(), 0.4),
    "dropout, strided": lambda x: F.dropout(x.transpose(1, 3), 0.4),
    "channels": lambda x: F.dropout2d(x, 0.4),
    "channels of sequences": lambda x: F.dropout1d(x.flatten(2), 0.4),
    "alpha": lambda x: F.alpha_dropout(x, 0.4),
    "feature alpha": lambda x: F.feature_alpha_dropout(x, 0.4),
    "gaussian": lambda x: F.gaussian_dropout(x, 0.4),
    "uniform": lambda x: F.uniform_dropout(x, 0.4),
    "block": lambda x: F.drop_block2d(x, 0.2, block_size=2),
    "path": lambda x: F.drop_path(x, 0.4),
    "path and residual": lambda x: F.drop_path_add(x, x, 0.4),
    "locked": lambda x: F.locked_dropout(x.flatten(2), 0.4, batch_first=True),
    "attention": lambda x: F.attention_dropout(x, 0.4),
    "attention, flat heads": lambda x: F.dropout(x.flatten(0, 1), 0.4).view(x.shape),
    "flat positions": lambda x: F.dropout(x.reshape(-1, 4), 0.4).view(x.shape),
    "keys": lambda x: F.drop_key(x, 0.4),
    "heads": lambda x: F.drop_head(x, 0.4),
    "cutout": lambda x: F.cutout(x, 0.5, size=2),
    "patches": lambda x: F.patch_dropout(x.flatten(2), 0.4),
    "recurrent": lambda x: F.recurrent_dropout(x, x, 0.4),
    "zoneout": lambda x: F.zoneout(x, x + 1, 0.4),
    "one sample of many": lambda x: F.multi_sample_dropout(x.flatten(1), torch.nn.Identity(), 0.4, samples=1, average="logits"),
    "words": lambda x: F.word_dropout(x.long()[:, :, 0, 0], 0.4, unknown=0),
    "denoising": lambda x: F.denoising_mask(x, 0.4),
}


@pytest.mark.parametrize("name", SLICED)
def test_a_batch_has_its_slice_of_the_whole(name):
    function = SLICED[name]
    with dk.keyed(5, pass_index=2):
        whole = function(KEY)
    for begin, end in ((0, 12), (0, 5), (5, 6), (6, 12), (11, 12)):
        with dk.keyed(5, pass_index=2, rows=(begin, end - begin)):
            assert torch.equal(function(KEY[begin:end]), whole[begin:end]), (begin, end)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32),
       st.sampled_from(["dropout", "gaussian", "path"]))
def test_however_the_data_is_cut_masks_are_the_same(sizes, seed, name):
    x = torch.arange(1.0, 7.0 * sum(sizes) + 1).view(-1, 7)
    with dk.keyed(seed):
        whole = SLICED[name](x)
    parts, begin = [], 0
    for part in x.split(sizes):
        with dk.keyed(seed, rows=(begin, len(part))):
            parts.append(SLICED[name](part))
        begin += len(part)
    assert torch.equal(torch.cat(parts), whole)


def test_slices_are_the_same_under_vmap():
    def one(seed):
        from dropkit.core.streams import keyed_pass
        with keyed_pass(seed, (4, 3)):
            return F.dropout2d(KEY[4:7], 0.4) + F.gaussian_dropout(KEY[4:7], 0.3) + F.drop_head(KEY[4:7], 0.4)

    seeds = torch.arange(5)
    assert torch.equal(torch.vmap(one)(seeds), torch.stack([one(seed) for seed in seeds]))


def test_a_weight_is_the_same_in_all_batches_and_a_state_is_drawn_afresh():
    layer = dk.nn.DropConnect(torch.nn.Linear(6, 6), 0.5, per="batch")
    lstm = dk.nn.VariationalLSTM(6, 6, num_layers=2, dropout=0.4, input_p=0.4)
    x = torch.ones(2, 6)
    outputs, states = [], []
    for begin in (0, 2, 4):
        with dk.keyed(1, rows=(begin, 2)):
            outputs.append(layer(x))
            states.append(lstm(torch.ones(3, 2, 6))[0])
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])
    with dk.keyed(1):
        layer(x)
        assert torch.equal(lstm(torch.ones(3, 2, 6))[0], states[0])


def test_what_a_mask_s_first_dimension_says():
    with dk.keyed(0, rows=(8, 4)):
        shapes = ((4,), (8, 3), (1, 3), (6, 3), (3, 4), ())
        assert [rows_of(shape) for shape in shapes] == [ROWS, ROWS, SAME, FRESH, FRESH, SAME]
        assert rows_of((4,), torch.Generator()) == SAME
        assert shard_of((8, 3), ROWS) == {"global_shape": (24, 3), "offsets": (16, 0)}
        assert shard_of((8, 3), FRESH) == {}
    for context in (dk.keyed(0), dk.keyed(0, rows=(0, 4))):
        with context:
            assert (rows_of((4,)), shard_of((4,), ROWS)) == (SAME, {})
    assert rows_of((4,)) == SAME


@pytest.mark.parametrize("begin", [0, 3])
def test_uses_of_a_site_keep_their_order(begin):
    with dk.keyed(0, rows=(begin, 2)):
        first, second = F.dropout(torch.ones(2, 50)), F.dropout(torch.ones(2, 50))
    assert not torch.equal(first, second)
    with dk.keyed(0):
        whole = [F.dropout(torch.ones(5, 50)) for _ in range(2)]
    assert torch.equal(first, whole[0][begin:begin + 2])
    assert torch.equal(second, whole[1][begin:begin + 2])


def test_a_checkpoint_recomputes_the_slice():
    from torch.utils.checkpoint import checkpoint
    x = torch.ones(3, 40, requires_grad=True)
    with dk.keyed(7, rows=(9, 3)):
        y = checkpoint(F.dropout, x, use_reentrant=False, context_fn=dk.checkpoint_contexts)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_reference_takes_slices_too(monkeypatch):
    monkeypatch.setattr(dispatch, "_is_native", lambda x: False)
    monkeypatch.setattr(dispatch, "_HAS_NATIVE", False)
    monkeypatch.setattr(dispatch, "_why", lambda: "")
    for name in ("dropout", "dropout_add", "dropout in place", "gaussian", "heads", "cutout"):
        test_a_batch_has_its_slice_of_the_whole(name)


@pytest.mark.parametrize("rows", [(1,), 3, (-1, 2), (0, 0), (0.5, 2), (True, 2), "ab"])
def test_rows_out_of_range_are_refused(rows):
    with pytest.raises(dk.InputError):
        dk.keyed(0, rows=rows)
