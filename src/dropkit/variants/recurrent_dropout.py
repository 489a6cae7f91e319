"""Recurrent dropout without memory loss: what is added to a memory is dropped, never the memory."""

from __future__ import annotations

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data
from dropkit.core.streams import rows_of, shard_of, site_key
from dropkit.kernels.dispatch import add_masked
from dropkit.variants.draw import acting_rate
from dropkit.variants.site import RateSite


def recurrent_dropout(update: Tensor, carried: Tensor, p: float | Tensor = 0.25, training: bool = True, *,
                      generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Add to a memory what dropout leaves of its update.

    ``c_t = carried + update m / (1 - p)``. In an LSTM ``f c_{t-1}`` is carried and ``i g`` is the update, in a GRU they are ``z
    h_{t-1}`` and ``(1 - z) n``; p is the rate, and m the mask, whose entries are 0 with probability p and otherwise 1. What a
    unit remembers is never dropped, however many steps it is carried.

    Args:
        update: what the step adds, of a floating-point type.
        carried: what is left of the memory, of the same shape and type.
        p: probability of dropping a unit's update, in [0, 1]. Default: 0.25.
        training: whether to drop. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        The memory after the step.

    Raises:
        InputError: for a rate outside [0, 1], integer data, or tensors that differ in shape or type.

    Shape:
        update, carried, output: any, all the same.

    Use:
        In a recurrent cell of your own, with a mask of its own at each step; `recurrent_dropout_lstm` and its kin do it for
        torch's layers, also with one mask a sequence. A mask on the memory itself would erase a unit's past after a few steps.

    Rates:
        0.25 to 0.5, the rates that the paper tries.

    Evidence:
        The paper tries masks at each step and one a sequence on language models, named entities and sentiment, and finds gains
        over no recurrent dropout.

    Example:
        >>> recurrent_dropout(torch.ones(3), torch.full((3,), 7.0), p=1.0)
        tensor([7., 7., 7.])

    References:
        Semeniuta, Severyn, Barth: "Recurrent dropout without memory loss", COLING 2016.
    """
    if check_data(update).shape != check_data(carried).shape or update.dtype != carried.dtype:
        raise InputError("an update and what is carried have one shape and type", fix="Expand or convert one of them",
                         got=phrase(f"{tuple(update.shape)} {update.dtype} and {tuple(carried.shape)} {carried.dtype}"))
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return carried + update
    rows = rows_of(update.shape, generator)
    seed, number = site_key(stream, generator, rows)
    return add_masked(carried, update, seed, rate, update.shape, number, True, **shard_of(update.shape, rows))


class RecurrentDropout(RateSite):
    """Add to a memory what dropout leaves of its update; `recurrent_dropout` as a module.

    Args:
        p: probability of dropping a unit's update, in [0, 1]. Default: 0.25.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        update, carried, output: any, all the same.

    Example:
        >>> RecurrentDropout(0.5)
        RecurrentDropout(p=0.5)
    """

    def __init__(self, p: float = 0.25) -> None:
        super().__init__()
        self.p = p

    def forward(self, update: Tensor, carried: Tensor) -> Tensor:
        """Drop updates in training mode; see `recurrent_dropout`.

        Args:
            update: what the step adds.
            carried: what is left of the memory.
        """
        return recurrent_dropout(update, carried, self.current_rate(), self.training, stream=self.stream)
