"""Batches of sequences in every form that torch's recurrent modules take: padded in either layout, single, or packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data

Input = Tensor | PackedSequence


@dataclass(frozen=True)
class Batch:
    """Sequences, time first.

    Masks belong to sequences in the caller's order, which a packed batch may have sorted: `per_sequence`, `per_row` and
    `spread` bring a mask from that order to the one in which the data lies.

    Args:
        data: (T, N, F), or (R, F) when packed.
        sizes: how many sequences each step has; empty unless packed.
        count: the number of sequences N.
        packed: what was unpacked, for its order and its lengths.
        batched: false for one sequence without a batch dimension.
        batch_first: whether the batch dimension came first.
    """

    data: Tensor
    sizes: Sequence[int]
    count: int
    packed: PackedSequence | None = None
    batched: bool = True
    batch_first: bool = False

    @property
    def steps(self) -> int:
        """The length T of the longest sequence."""
        return len(self.sizes) if self.packed is not None else self.data.shape[0]

    def with_data(self, data: Tensor) -> Batch:
        """Return the same sequences with other features."""
        return replace(self, data=data)

    def rows(self) -> Tensor:
        """Return the data with one row a step of a sequence."""
        return self.data if self.packed is not None else self.data.flatten(0, 1)

    def from_rows(self, rows: Tensor) -> Tensor:
        """Return rows in the data's shape."""
        return rows if self.packed is not None else rows.view(-1, self.count, rows.shape[-1])

    def per_sequence(self, mask: Tensor) -> Tensor:
        """Bring (..., N, F) in the caller's order to the order of the states."""
        return self.ordered(mask, -2)

    def per_row(self, mask: Tensor) -> Tensor:
        """Bring (T, N, F) in the caller's order to rows."""
        flat = mask.flatten(0, 1)
        if self.packed is None:
            return flat
        step = torch.arange(self.steps, device=flat.device).repeat_interleave(self._sizes(flat))
        return flat.index_select(0, step * self.count + self._sequence_of_rows(flat))

    def spread(self, mask: Tensor) -> Tensor:
        """Bring (..., N, F) in the caller's order to what multiplies the data."""
        return mask if self.packed is None else mask.index_select(-2, self._sequence_of_rows(mask))

    def ordered(self, state: Tensor, dim: int = 1) -> Tensor:
        """Bring the sequences of a state from the caller's order to the data's."""
        order = None if self.packed is None else self.packed.sorted_indices
        return state if order is None else state.index_select(dim, order)

    def restored(self, state: Tensor) -> Tensor:
        """Bring a state, (layers, N, ...), to the caller's order and form."""
        order = None if self.packed is None else self.packed.unsorted_indices
        state = state if order is None else state.index_select(1, order)
        return state if self.batched else state.squeeze(1)

    def output(self, data: Tensor) -> Input:
        """Return data of other features in the form in which the input came."""
        if self.packed is not None:
            return PackedSequence(data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices)
        if not self.batched:
            return data.squeeze(1)
        return data.transpose(0, 1) if self.batch_first else data

    def _sizes(self, like: Tensor) -> Tensor:
        return torch.tensor(self.sizes, device=like.device)

    def _sequence_of_rows(self, like: Tensor) -> Tensor:
        """The number of each row's sequence, in the caller's order."""
        places = torch.cat([torch.arange(size, device=like.device) for size in self.sizes])
        order = None if self.packed is None else self.packed.sorted_indices
        return places if order is None else order.index_select(0, places)


def unpack(x: Any, batch_first: bool = False) -> Batch:
    """Take a batch in any form.

    Args:
        x: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F), or a packed sequence.
        batch_first: whether the batch dimension comes first; of no effect on one sequence or packed ones.

    Raises:
        InputError: for anything else, or integer data.

    Example:
        >>> unpack(torch.zeros(5, 2, 3), batch_first=True).data.shape
        torch.Size([2, 5, 3])
    """
    if isinstance(x, PackedSequence):
        return Batch(check_data(x.data), x.batch_sizes.tolist(), int(x.batch_sizes[0]), x)
    if check_data(x).dim() not in (2, 3):
        raise InputError("recurrent layers take a batch of sequences with 3 dimensions, one sequence (T, F), or a packed one",
                         got=tuple(x.shape), fix="Pass (T, N, F), or (N, T, F) with batch_first=True")
    if x.dim() == 2:
        return Batch(x.unsqueeze(1), (), 1, batched=False)
    data = x.transpose(0, 1) if batch_first else x
    return Batch(data, (), data.shape[1], batch_first=batch_first)
