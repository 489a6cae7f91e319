import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import dropkit as dk
from dropkit.variants.sequences import unpack

LENGTHS = torch.tensor([3, 5, 2])


def padded():
    torch.manual_seed(0)
    return torch.randn(5, 3, 2)


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_masks_follow_their_sequences(enforce_sorted):
    """A mask in the caller's order lands on the rows of the sequences that it belongs to."""
    x, lengths = padded(), LENGTHS.sort(descending=True)[0] if enforce_sorted else LENGTHS
    batch = unpack(pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted))
    assert (batch.steps, batch.count, batch.data.shape) == (5, 3, (10, 2))
    each_step = torch.arange(30.0).view(5, 3, 2)
    found = pad_packed_sequence(batch.output(batch.per_row(each_step)))[0]
    alike = pad_packed_sequence(batch.output(batch.spread(each_step[0])))[0]
    for n, length in enumerate(lengths.tolist()):
        assert torch.equal(found[:length, n], each_step[:length, n])
        assert torch.equal(alike[:length, n], each_step[:1, n].expand(length, 2))
    states = each_step[:1]
    assert torch.equal(batch.restored(batch.ordered(states)), states)
    assert torch.equal(batch.per_sequence(each_step[0]), batch.ordered(states)[0])


def test_padded_batches_in_either_layout_and_single_sequences():
    x = padded()
    for given, first in ((x, False), (x.transpose(0, 1), True)):
        batch = unpack(given, first)
        assert torch.equal(batch.data, x)
        assert torch.equal(batch.from_rows(batch.rows()), x)
        assert torch.equal(batch.output(batch.data), given)
        assert batch.spread(x) is x
        assert torch.equal(batch.per_row(x), x.flatten(0, 1))
    for first in (False, True):
        batch = unpack(x[:, 0], first)
        assert batch.data.shape == (5, 1, 2)
        assert torch.equal(batch.output(batch.data), x[:, 0])
        assert batch.restored(torch.zeros(2, 1, 4)).shape == (2, 4)


def test_packed_output_keeps_the_order_and_the_lengths():
    packed = pack_padded_sequence(padded(), LENGTHS, enforce_sorted=False)
    output = unpack(packed).output(packed.data * 2)
    assert isinstance(output, PackedSequence)
    assert torch.equal(pad_packed_sequence(output)[1], LENGTHS)
    assert torch.equal(output.unsorted_indices, packed.unsorted_indices)


@pytest.mark.parametrize("x", [torch.zeros(3), torch.zeros(2, 2, 2, 2), torch.zeros(2, 2, dtype=torch.int64), [1.0]])
def test_other_input_is_refused(x):
    with pytest.raises(dk.InputError):
        unpack(x)
