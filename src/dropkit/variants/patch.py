"""PatchDropout: a fixed number of tokens is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data
from dropkit.core.rates import check_rate
from dropkit.core.streams import skip_site
from dropkit.variants.draw import draw_noise
from dropkit.variants.site import RateSite


def patch_dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, *, prefix: int = 1, ordered: bool = True,
                  return_indices: bool = False, generator: torch.Generator | None = None,
                  stream: str | None = None) -> Tensor | tuple[Tensor, Tensor | None]:
    """Keep the same number of randomly chosen tokens of each example in training.

    Of L tokens the first ``prefix`` are always kept; of the other n exactly ``max(1, floor(n (1 - p)))`` are, each subset with
    the same probability. A product within 10^-9 of an integer counts as that integer, so that of 10 tokens 1 is kept at
    p = 0.9, whatever the product of floats says. The others are removed, not zeroed: what follows sees a shorter sequence.
    Nothing is rescaled.

    Args:
        x: tokens, floating-point data.
        p: fraction of the tokens to drop, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        prefix: tokens at the beginning that are kept, such as a class token. Default: 1.
        ordered: whether what is kept stays in order. Default: True.
        return_indices: whether to return which tokens were kept as well. Default: False.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        The kept tokens; with ``return_indices`` a pair with their places, or None where all were kept.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, or a prefix that the input does not have.

    Shape:
        x: (N, L, D). Output: (N, kept, D), and (N, kept) for the places.

    Use:
        After the position embedding of a vision transformer: it saves the computation of what is dropped, and regularises. Not
        where every position needs an output, such as segmentation.

    Rates:
        0.5.

    Evidence:
        The paper reports at least half the computation and memory saved in training on high-resolution images, with
        accuracy that hardly falls or rises.

    Example:
        >>> patch_dropout(torch.ones(2, 9, 4), p=0.5).shape
        torch.Size([2, 5, 4])

    References:
        Liu, Matsoukas, Strand, Azizpour, Smith: "PatchDropout: economizing vision transformers using patch dropout",
        WACV 2023.
    """
    rate = check_rate(p)
    _check_prefix(prefix, x)
    if not training or rate == 0.0:
        if training and generator is None:
            skip_site(stream)
        return (x, None) if return_indices else x
    rest = check_data(x).shape[1] - prefix
    count = min(rest, max(1, math.floor(rest * (1 - rate) + 1e-9)))
    order = draw_noise((x.shape[0], rest), "uniform", generator, stream, device=x.device).argsort(dim=1, stable=True)
    chosen = order[:, :count] + prefix
    if ordered:
        chosen = chosen.sort(dim=1).values
    first = torch.arange(prefix, device=x.device).expand(x.shape[0], prefix)
    places = torch.cat((first, chosen), 1)
    kept = _take(x, places)
    return (kept, places) if return_indices else kept


class PatchDropout(RateSite):
    """Keep the same number of randomly chosen tokens of each example in training; `patch_dropout` as a module.

    Args:
        p: fraction of the tokens to drop, in [0, 1]. Default: 0.5.
        prefix: tokens at the beginning that are kept. Default: 1.
        ordered: whether what is kept stays in order. Default: True.
        return_indices: whether to return which tokens were kept as well. Default: False.

    Raises:
        InputError: for a rate outside [0, 1], or a prefix that is no number of tokens.

    Shape:
        Input: (N, L, D). Output: (N, kept, D), with ``return_indices`` also (N, kept).

    Example:
        >>> PatchDropout(0.25, prefix=0)
        PatchDropout(p=0.25, prefix=0)
    """

    extras: ClassVar[Mapping[str, Any]] = {"prefix": 1, "ordered": True, "return_indices": False}

    def __init__(self, p: float = 0.5, *, prefix: int = 1, ordered: bool = True, return_indices: bool = False) -> None:
        super().__init__()
        _check_prefix(prefix)
        self.p, self.prefix, self.ordered, self.return_indices = p, prefix, ordered, return_indices

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """Drop tokens in training mode; see `patch_dropout`.

        Args:
            input: tokens, (N, L, D).
        """
        return patch_dropout(input, self.p, self.training, prefix=self.prefix, ordered=self.ordered,
                             return_indices=self.return_indices, stream=self.stream)


def _take(x: Tensor, places: Tensor) -> Tensor:
    """Gather whole tokens as rows of one table, several times faster than ``gather`` with a place for each number."""
    batch, length, width = x.shape
    rows = places + torch.arange(batch, device=x.device)[:, None] * length
    return x.reshape(batch * length, width).index_select(0, rows.flatten()).view(batch, places.shape[1], width)


def _check_prefix(prefix: Any, x: Tensor | None = None) -> None:
    if isinstance(prefix, bool) or not isinstance(prefix, int) or prefix < 0:
        raise InputError("prefix is a number of tokens, at least 0", got=prefix, fix="Pass 1 for a class token, 0 for none")
    if x is not None and (x.dim() != 3 or x.shape[1] < prefix):
        raise InputError(f"tokens come in the shape (N, L, D) with L at least {prefix}", got=tuple(x.shape),
                         fix="Flatten the grid of patches first, or pass a smaller prefix")
