"""Dropout with one mask for all time steps of a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.variants.dropout import dropout
from dropkit.variants.site import RateSite


def locked_dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, *, batch_first: bool = False,
                   generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero features of sequences at random in training, the same ones at every time step.

    ``y[t] = x[t] * m / (1 - p)`` for every step t, with one mask m for each sequence; x is the input, p the rate, and m has an
    entry for each feature, 0 with probability p and otherwise 1. In evaluation ``y = x``.

    Args:
        x: data of a floating-point type.
        p: probability of dropping a feature, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F), as in torch's recurrent modules.
            Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: unless x has 2 or 3 dimensions; for a rate outside [0, 1], or integer data in training.

    Shape:
        x: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F) for one sequence in either case; T time steps, N sequences, F
        features. Output: as x.

    Use:
        On the inputs and outputs of recurrent layers, where a mask of its own at every step would add noise that the network
        can average out over time. Not on recurrent states inside a layer, and not for transformers, where `dropout` is usual.

    Rates:
        0.2 to 0.5; Merity et al. (2018) use 0.4 on word vectors and 0.4 on the last layer's output.

    Evidence:
        Gal and Ghahramani (2016) derive the shared mask and report better language models with it than with a new mask at
        each step; Merity et al. (2018) use it throughout.

    Example:
        >>> y = locked_dropout(torch.ones(5, 2, 3))
        >>> bool((y == y[:1]).all())
        True

    References:
        Gal, Ghahramani: "A theoretically grounded application of dropout in recurrent neural networks", NIPS 2016. Merity,
        Keskar, Socher: "Regularizing and optimizing LSTM language models", ICLR 2018. Called variational dropout in both;
        that name is also that of learned rates (Kingma et al. 2015), which this is not. LockedDropout is the name in the
        code of Merity et al.
    """
    if x.dim() not in (2, 3):
        raise InputError("locked_dropout takes a batch of sequences with 3 dimensions, or one sequence (T, F)",
                         got=tuple(x.shape), fix="Pass (T, N, F), or (N, T, F) with batch_first=True")
    time = 1 if batch_first and x.dim() == 3 else 0
    return dropout(x, p, training, share_dims=(time,), generator=generator, stream=stream)


class LockedDropout(RateSite):
    """Zero features of sequences at random, the same ones at every time step; `locked_dropout` as a module.

    Args:
        p: probability of dropping a feature, in [0, 1]. Default: 0.5.
        batch_first: whether batches are laid out (N, T, F) rather than (T, N, F). Default: False.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        Input: (T, N, F), or (N, T, F) with ``batch_first``, or (T, F). Output: as the input.

    Example:
        >>> LockedDropout(0.4, batch_first=True)
        LockedDropout(p=0.4, batch_first=True)
    """

    batch_first: bool = False
    extras: ClassVar[Mapping[str, Any]] = {"batch_first": False}

    def __init__(self, p: float = 0.5, *, batch_first: bool = False) -> None:
        super().__init__()
        self.p = p
        self.batch_first = batch_first

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `locked_dropout`.

        Args:
            input: floating-point data, (T, N, F), or (N, T, F) with ``batch_first``, or (T, F).
        """
        return locked_dropout(input, self.current_rate(), self.training, batch_first=self.batch_first, stream=self.stream)
