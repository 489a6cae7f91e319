"""Dropout of keys before the softmax of attention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_dims, mask_shape
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.site import RateSite


def drop_key(logits: Tensor, p: float | Tensor = 0.1, training: bool = True, *, share_dims: Iterable[int] = (),
             generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Hide keys from queries at random in training: their attention logits become -inf before the softmax.

    ``z'[i, j] = z[i, j]`` where m[i, j] = 1 and -inf where m[i, j] = 0, for query i and key j; z are the logits, m is the mask,
    whose entries are 0 with probability p and otherwise 1. Nothing is scaled: the softmax that follows distributes the whole
    attention over the keys that are left. A row that would lose every key it may attend to is left as it is. Keys that are
    -inf already, by a mask of yours, stay so, and so do rows that are -inf throughout.

    Args:
        logits: attention scores before the softmax, of a real floating-point type, keys last.
        p: probability of dropping a key, in [0, 1]; at 1 every row would lose all keys, so all are left as they are.
            Default: 0.1.
        training: whether to drop. Default: True.
        share_dims: dimensions along which all logits share one decision, such as (-2,) to hide a key from all queries, or
            (-3, -2) to hide it in all heads as well. Not the last one.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the logits, with -inf where a key is dropped; the logits themselves where nothing is to be done. What is
        dropped has gradient 0.

    Raises:
        InputError: for a rate outside [0, 1], data in training that is not real and floating-point or has no dimensions, or
            wrong dimensions.

    Shape:
        logits: (..., L, S), L queries and S keys. Output: as the logits.

    Use:
        In place of dropout on the attention weights, between your mask and the softmax. The weights still sum to 1, so no
        query sees more or less attention in training than in evaluation. Where a row may be masked throughout, follow it by
        `softmax_rows` instead of ``softmax``, which gives NaN there. With few keys a row, the rows left as they are become
        frequent: all S keys of a row are dropped with probability p^S.

    Rates:
        0.1 is a place to start. The paper lowers the rate from the first layers to the last, so that early ones do not overfit
        details and late ones do not miss what matters.

    Evidence:
        The paper reports better vision transformers (DeiT, T2T, VOLO, CeiT) with it, argues for a falling rather than a
        constant rate, and finds dropping blocks of neighbouring patches not to be essential.

    Example:
        >>> z = drop_key(torch.zeros(2, 4), p=0.5, generator=torch.Generator().manual_seed(0))
        >>> z.softmax(-1).sum(-1)
        tensor([1., 1.])

    References:
        Li, Hu, Nie, Han, Jiang, Guo, Liu: "DropKey for vision transformer", CVPR 2023. The paper adds -1e12 to dropped
        logits, which float16 cannot hold; -inf is exact in every type.
    """
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return logits
    keep = draw_keep(key_mask_shape(logits, share_dims), rate, generator, stream, device=logits.device)
    return torch.where(_without_empty_rows(keep, logits.detach()), logits, -math.inf)


class DropKey(RateSite):
    """Hide keys from queries at random in training; `drop_key` as a module.

    Args:
        p: probability of dropping a key, in [0, 1]. Default: 0.1.
        share_dims: dimensions along which all logits share one decision, such as (-2,) to hide a key from all queries.

    Raises:
        InputError: for a rate outside [0, 1], or dimensions that are not integers.

    Shape:
        Input: (..., L, S), attention logits. Output: as the input.

    Example:
        >>> DropKey(0.3, share_dims=(-2,))
        DropKey(p=0.3, share_dims=(-2,))
    """

    share_dims: tuple[int, ...] = ()
    extras: ClassVar[Mapping[str, Any]] = {"share_dims": ()}

    def __init__(self, p: float = 0.1, *, share_dims: Iterable[int] = ()) -> None:
        super().__init__()
        self.p, self.share_dims = p, check_dims(share_dims)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_key`.

        Args:
            input: attention logits, keys last.
        """
        return drop_key(input, self.current_rate(), self.training, share_dims=self.share_dims, stream=self.stream)


def softmax_rows(logits: Tensor) -> Tensor:
    """Softmax over the last dimension in which a row of -inf gives zeros instead of NaN, in value and gradient.

    Args:
        logits: of a real floating-point type.

    Shape:
        logits: (..., S). Output: as the logits.

    Example:
        >>> softmax_rows(torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]]))
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
    """
    blocked = (logits == -math.inf).all(-1, keepdim=True)
    return logits.masked_fill(blocked, 0).softmax(-1).masked_fill(blocked, 0)


def key_mask_shape(x: Any, share_dims: Iterable[int]) -> tuple[int, ...]:
    """The shape of a mask over keys, or an error for data that has none.

    Args:
        x: attention logits or weights, keys last.
        share_dims: as in `drop_key`.

    Raises:
        InputError: for data that is not real and floating-point or has no dimensions, or wrong dimensions.

    Example:
        >>> key_mask_shape(torch.zeros(2, 3, 4), (-2,))
        (2, 1, 4)
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise InputError("attention is a tensor of real floating-point numbers", got=getattr(x, "dtype", x),
                         fix="Convert it, as in x.float()")
    shared = check_dims(share_dims)
    if x.dim() == 0 or {-1, x.dim() - 1} & set(shared):
        raise InputError("decisions are made for each key, in the last dimension", got=shared or tuple(x.shape),
                         fix="Pass attention with keys last, and leave the last dimension out of share_dims")
    return mask_shape(x.shape, shared)


def _without_empty_rows(keep: Tensor, logits: Tensor) -> Tensor:
    """The mask with everything kept in rows that it would leave with nothing but -inf."""
    if logits.shape[-1] == 0:
        return keep
    # A maximum is much faster than `any` over bools.
    empty = torch.where(keep, logits, -math.inf).amax(-1, keepdim=True) == -math.inf
    return keep | empty
