"""Dropout of attention weights whose rows are normalised again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import UNSCALED, check_dims, compute_dtypes
from dropkit.variants.draw import acting_rate, draw_keep, draw_masked
from dropkit.variants.drop_key import key_mask_shape
from dropkit.variants.site import RateSite

_LEAST = 1e-18
"""A row with a smaller sum left is not dropped: dividing by it could overflow in the backward pass."""


def drop_attention(weights: Tensor, p: float | Tensor = 0.1, training: bool = True, *, window: int = 1,
                   share_dims: Iterable[int] = (), generator: torch.Generator | None = None,
                   stream: str | None = None) -> Tensor:
    """Zero attention weights at random in training and normalise the rows again.

    ``w'[i, j] = w[i, j] m[i, j] / sum_k w[i, k] m[i, k]`` for query i and key j; w are the weights after the softmax, m is the
    mask, whose entries are 0 with probability p and otherwise 1. There is no factor ``1 / (1 - p)``: each row sums to 1.
    A row with nothing left (a sum below 1e-18) is left as it is. With a window of more than one key, runs of neighbouring keys
    are dropped: a run begins at any of the S + window - 1 places that reach a key, with probability
    ``1 - (1 - p)^(1 / window)``, so that every key, at the ends too, is dropped with probability p.

    Args:
        weights: attention weights after the softmax, of a real floating-point type and not negative, keys last.
        p: probability of dropping a weight, in [0, 1]; at 1 no row would have anything left, so all are left as they are.
            Default: 0.1.
        training: whether to drop. Default: True.
        window: how many neighbouring keys are dropped together, at least 1. Default: 1.
        share_dims: dimensions along which all weights share one decision: (-2,) drops whole columns, a key for all queries.
            Not the last one.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the weights; the weights themselves where nothing is to be done. What is dropped is 0 and has gradient 0.
        Elsewhere the gradient goes through the sums as well.

    Raises:
        InputError: for a rate outside [0, 1], a window that is not a positive integer, data in training that is not real and
            floating-point or has no dimensions, or wrong dimensions.

    Shape:
        weights: (..., L, S), L queries and S keys. Output: as the weights.

    Use:
        On attention weights, where dropout without normalisation would leave rows whose weights sum to more or less than 1.
        Columns hide a word from a whole sequence; windows hide phrases, of which a single word would be guessed from its
        neighbours. `drop_key` with elements does the same from logits, with one pass less over the weights.

    Rates:
        0.1 to 0.3, and windows of 1 to 3 keys, are a place to start; tune both on your data.

    Evidence:
        The paper reports better results and less overfitting on a wide range of tasks with text, with elements and with
        columns.

    Example:
        >>> w = drop_attention(torch.full((2, 4), 0.25), p=0.5, generator=torch.Generator().manual_seed(0))
        >>> w.sum(-1)
        tensor([1., 1.])

    References:
        Zehui, Liu, Huang, Chen, Qiu, Huang: "DropAttention: a regularization method for fully-connected self-attention
        networks", 2019. Its DropAttention(e) is the default here and DropAttention(c) is ``share_dims=(-2,)``.
    """
    _check_window(window)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return weights
    shape = key_mask_shape(weights, share_dims)
    x = weights.to(compute_dtypes(weights.dtype)[0])
    if window == 1:
        kept = draw_masked(x, rate, shape, generator, stream, scaling=UNSCALED)
    else:
        kept = torch.where(_draw_windows(shape, rate, window, generator, stream, x.device), x, 0)
    return _normalised(kept, x).to(weights.dtype)


class DropAttention(RateSite):
    """Zero attention weights at random in training and normalise the rows again; `drop_attention` as a module.

    Args:
        p: probability of dropping a weight, in [0, 1]. Default: 0.1.
        window: how many neighbouring keys are dropped together, at least 1. Default: 1.
        share_dims: dimensions along which all weights share one decision: (-2,) drops whole columns.

    Raises:
        InputError: for a rate outside [0, 1], a window that is not a positive integer, or dimensions that are not integers.

    Shape:
        Input: (..., L, S), attention weights. Output: as the input.

    Example:
        >>> DropAttention(0.2, window=3, share_dims=(-2,))
        DropAttention(p=0.2, window=3, share_dims=(-2,))
    """

    window: int = 1
    share_dims: tuple[int, ...] = ()
    extras: ClassVar[Mapping[str, Any]] = {"window": 1, "share_dims": ()}

    def __init__(self, p: float = 0.1, *, window: int = 1, share_dims: Iterable[int] = ()) -> None:
        super().__init__()
        self.p, self.window, self.share_dims = p, _check_window(window), check_dims(share_dims)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_attention`.

        Args:
            input: attention weights, keys last.
        """
        return drop_attention(input, self.current_rate(), self.training, window=self.window, share_dims=self.share_dims,
                              stream=self.stream)


def _check_window(window: Any) -> int:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise InputError("window is a number of neighbouring keys, at least 1", got=window, fix="Pass an int such as 3")
    return window


def _draw_windows(shape: Sequence[int], rate: Tensor, window: int, generator: torch.Generator | None, stream: str | None,
                  device: torch.device) -> Tensor:
    """A mask that keeps a key unless one of the ``window`` runs which reach it begins."""
    if shape[-1] == 0:
        return draw_keep(shape, rate, generator, stream, device=device)
    begins = -torch.expm1(torch.log1p(-rate) / window)
    keep = draw_keep((*shape[:-1], shape[-1] + window - 1), begins, generator, stream, device=device)
    return keep.unfold(-1, window, 1).all(-1)


def _normalised(kept: Tensor, x: Tensor) -> Tensor:
    """The kept weights over their sum; rows of x as they are where nothing is kept."""
    total = kept.sum(-1, keepdim=True)
    empty = total.detach() < _LEAST
    return torch.where(empty, x, kept) * torch.where(empty, 1, total).reciprocal()  # cheaper than a division, backwards too
