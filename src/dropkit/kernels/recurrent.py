"""One recurrent layer in one direction over all steps, with masks inside: what it is, and the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LSTM, GRU, TANH, RELU = range(4)
"""Cells, by the numbers that the operators take."""

GATES = (4, 3, 1, 1)
"""How many gates each cell has."""

Pair = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Layer:
    """What a recurrent layer computes with.

    Rows are steps of sequences: all sequences at step 0, then those that go on to step 1, and so on, as in torch's packed
    sequences. N is the number of sequences, R that of rows, F that of features, H that of units, G that of gates, and P the
    size of a state: H, or that of the projection. A multiplier for all steps has N rows, one for each step R rows.

    Args:
        cell: `LSTM`, `GRU`, `TANH` or `RELU`.
        x: (R, F), the input.
        w_ih: (G H, F), its weights.
        h: (N, P), the first state.
        c: (N, H), the first memory of an LSTM.
        w_hh: (G H, P), the states' weights.
        bias: (G H), all biases but the next.
        bias_n: (H), a GRU's bias inside the reset gate.
        projection: (P, H), of an LSTM that has one.
        entering: (G, N or R, F), multiplies the input of each gate; N only where all sequences are equally long.
        recurrent: (K, N or R, P), multiplies the state where it enters the gates; K is 1, or G for each gate its own.
        candidate: (N or R, H), multiplies the candidate of LSTM and GRU.
        zone_c: (N or R, H), how much of the old memory stays.
        zone_h: (N or R, P), how much of the old state stays.
        sizes: how many sequences there are at each step; empty when all are equally long.
        reverse: whether to run from the last step to the first.
    """

    cell: int
    x: Tensor
    w_ih: Tensor
    h: Tensor
    c: Tensor | None
    w_hh: Tensor
    bias: Tensor | None = None
    bias_n: Tensor | None = None
    projection: Tensor | None = None
    entering: Tensor | None = None
    recurrent: Tensor | None = None
    candidate: Tensor | None = None
    zone_c: Tensor | None = None
    zone_h: Tensor | None = None
    sizes: Sequence[int] = ()
    reverse: bool = False


def reference(layer: Layer) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a layer in operations that PyTorch differentiates, to any order and in forward mode.

    Args:
        layer: the layer.

    Returns:
        The states after each row, (R, P), the last state of each sequence, (N, P), and an LSTM's last memory, (N, H).

    Example:
        >>> layer = Layer(TANH, torch.zeros(6, 4), torch.zeros(2, 4), torch.zeros(3, 2), None, torch.eye(2))
        >>> [tuple(part.shape) for part in reference(layer)[:2]]
        [(6, 2), (3, 2)]
    """
    h, c, outputs, gates = layer.h, layer.c, {}, _projected(layer)
    for first, count in steps(gates.shape[0], h.shape[0], layer.sizes, layer.reverse):
        old_h, old_c = h[:count], None if c is None else c[:count]
        product = _products(layer, old_h, first)
        new_h, new_c = _CELLS[layer.cell](layer, gates[first:first + count], product, old_h, old_c, first)
        if layer.projection is not None:
            new_h = new_h @ layer.projection.t()
        new_h = blend(old_h, new_h, part(layer.zone_h, first, count, layer))
        outputs[first] = new_h
        h = new_h if count == h.shape[0] else torch.cat((new_h, h[count:]))
        if c is not None and new_c is not None and old_c is not None:
            new_c = blend(old_c, new_c, part(layer.zone_c, first, count, layer))
            c = new_c if count == c.shape[0] else torch.cat((new_c, c[count:]))
    return torch.cat([outputs[first] for first in sorted(outputs)]), h, c


def steps(rows: int, sequences: int, sizes: Sequence[int], reverse: bool) -> Iterator[tuple[int, int]]:
    """The first row and the number of rows of each step, in the order in which a layer runs.

    Args:
        rows: how many rows there are.
        sequences: how many sequences there are.
        sizes: how many sequences each step has; empty when all are equally long.
        reverse: whether the last step comes first.

    Example:
        >>> list(steps(5, 2, (2, 2, 1), True))
        [(4, 1), (2, 2), (0, 2)]
    """
    counts = sizes or [sequences] * (rows // max(sequences, 1))
    first, found = 0, []
    for count in counts:
        found.append((first, count))
        first += count
    return reversed(found) if reverse else iter(found)


def part(multiplier: Tensor | None, first: int, count: int, layer: Layer) -> Tensor | None:
    """A multiplier's rows for one step.

    Args:
        multiplier: with a row a sequence or a row a step of a sequence, in its last but one dimension.
        first: the step's first row.
        count: how many rows the step has.
        layer: the layer.
    """
    if multiplier is None:
        return None
    begin = first if multiplier.shape[-2] == layer.x.shape[0] else 0
    return multiplier.narrow(-2, begin, count)


def blend(old: Tensor, new: Tensor, zone: Tensor | None) -> Tensor:
    """What is left of old and new values: ``zone * old + (1 - zone) * new``.

    Args:
        old: the values before.
        new: the values after.
        zone: how much of the old ones stays; nothing when None.
    """
    return new if zone is None else zone * old + (1 - zone) * new


def enter(x: Tensor, mask: Tensor) -> Tensor:
    """The input times a mask; what is dropped is 0 even where it was infinite or NaN.

    Args:
        x: (R, F).
        mask: (R, F), or (N, F) where all sequences are equally long.

    Example:
        >>> enter(torch.full((4, 1), torch.inf), torch.tensor([[0.0], [2.0]])).tolist()
        [[0.0], [inf], [0.0], [inf]]
    """
    rows = x if mask.shape == x.shape else x.view(-1, *mask.shape)
    return torch.where(mask == 0, 0, rows * mask).view(x.shape)


def _projected(layer: Layer) -> Tensor:
    """The input's share of every gate at every step."""
    if layer.entering is None:
        return F.linear(layer.x, layer.w_ih, layer.bias)
    weights = layer.w_ih.chunk(layer.entering.shape[0])
    gates = torch.cat([F.linear(enter(layer.x, mask), own) for mask, own in zip(layer.entering, weights, strict=True)], -1)
    return gates if layer.bias is None else gates + layer.bias


def _products(layer: Layer, h: Tensor, first: int) -> Tensor:
    """The states' share of every gate."""
    masks = part(layer.recurrent, first, h.shape[0], layer)
    if masks is None:
        return F.linear(h, layer.w_hh)
    if masks.shape[0] == 1:
        return F.linear(h * masks[0], layer.w_hh)
    weights = layer.w_hh.chunk(masks.shape[0])
    return torch.cat([F.linear(h * mask, weight) for mask, weight in zip(masks, weights, strict=True)], -1)


def _lstm(layer: Layer, gates: Tensor, product: Tensor, h: Tensor, c: Tensor | None, first: int) -> Pair:
    assert c is not None
    i, f, g, o = (gates + product).chunk(4, -1)
    candidate = g.tanh()
    mask = part(layer.candidate, first, h.shape[0], layer)
    candidate = candidate if mask is None else candidate * mask
    new = f.sigmoid() * c + i.sigmoid() * candidate
    return o.sigmoid() * new.tanh(), new


def _gru(layer: Layer, gates: Tensor, product: Tensor, h: Tensor, c: Tensor | None, first: int) -> Pair:
    (r, z, n), (hidden_r, hidden_z, hidden_n) = gates.chunk(3, -1), product.chunk(3, -1)
    hidden_n = hidden_n if layer.bias_n is None else hidden_n + layer.bias_n
    candidate, update = (n + (r + hidden_r).sigmoid() * hidden_n).tanh(), (z + hidden_z).sigmoid()
    mask = part(layer.candidate, first, h.shape[0], layer)
    candidate = candidate if mask is None else candidate * mask
    return (1 - update) * candidate + update * h, None


def _tanh(layer: Layer, gates: Tensor, product: Tensor, h: Tensor, c: Tensor | None, first: int) -> Pair:
    return (gates + product).tanh(), None


def _relu(layer: Layer, gates: Tensor, product: Tensor, h: Tensor, c: Tensor | None, first: int) -> Pair:
    return (gates + product).relu(), None


_CELLS = (_lstm, _gru, _tanh, _relu)
