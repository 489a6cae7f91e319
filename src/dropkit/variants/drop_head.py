"""Dropout of whole attention heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.variants.draw import acting_rate, draw_noise
from dropkit.variants.site import RateSite


def drop_head(x: Tensor, p: float | Tensor = 0.1, training: bool = True, *, head_dim: int = 1, per: str = "sample",
              generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero the output of whole attention heads at random in training, but never of all heads.

    ``y[h] = x[h] m[h] H / sum_k m[k]`` for head h of H; x is the heads' output, m is the mask, whose entries are 0 with
    probability p and otherwise 1, one for each head of each example. Where all would be dropped, one head, each with the same
    probability, is kept. The rescaling is by the heads that are really left, so the expected output is x.

    Args:
        x: the output of each head, before the heads are joined; floating-point data.
        p: probability of dropping a head, in [0, 1]; at 1 exactly one head is left. Default: 0.1.
        training: whether to drop. Default: True.
        head_dim: which dimension counts the heads; -3 suits (N, H, T, D) and (H, T, D) alike. Default: 1.
        per: ``"sample"`` decides for each entry of dimension 0 unless that counts the heads, ``"batch"`` once for all.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, an unknown ``per``, or a dimension that x lacks.

    Shape:
        x: any with a dimension for heads, usually (N, H, T, D) or, with ``head_dim=2``, (N, T, H, D). Output: as x.

    Use:
        On the output of multi-head attention before its last projection, when a few heads do most of the work or heads are to
        be pruned later. With few heads each one is a large part of the layer, so keep the rate low; a layer with one head is
        left as it is.

    Rates:
        0.1 or 0.2 is a place to start. The paper changes the rate over training: high at first, down to 0 during the warm-up,
        then up again.

    Evidence:
        Michel et al. find that many heads of trained models can be removed without much loss. The paper reports gains of
        0.9 BLEU on WMT14 English-German translation and of about 1 point of accuracy in text classification, with its schedule.

    Example:
        >>> y = drop_head(torch.ones(2, 4, 3, 5), p=0.5)
        >>> torch.allclose(y.mean((1, 2, 3)), torch.ones(2))
        True

    References:
        Zhou, Ge, Xu, Wei, Zhou: "Scheduled DropHead: a regularization method for transformer models", Findings of EMNLP
        2020. Michel, Levy, Neubig: "Are sixteen heads really better than one?", NeurIPS 2019.
    """
    _check_per(per)
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return x
    shape = _mask_shape(check_data(x).shape, head_dim, per)
    noise = draw_noise(shape, "uniform", generator, stream, device=x.device)
    if x.shape[head_dim] == 0:
        return x
    keep = _kept_heads(noise, rate.to(noise.device), head_dim)
    wide, factor = compute_dtypes(x.dtype)
    scale = x.shape[head_dim] / keep.sum(head_dim, keepdim=True).to(factor)
    return torch.where(keep, x.to(wide) * scale, 0).to(x.dtype)


class DropHead(RateSite):
    """Zero the output of whole attention heads at random in training; `drop_head` as a module.

    Args:
        p: probability of dropping a head, in [0, 1]; at 1 exactly one head is left. Default: 0.1.
        head_dim: which dimension counts the heads. Default: 1.
        per: ``"sample"`` or ``"batch"``.

    Raises:
        InputError: for a rate outside [0, 1], an unknown ``per``, or a ``head_dim`` that is not an integer.

    Shape:
        Input: any with a dimension for heads, usually (N, H, T, D). Output: as the input.

    Example:
        >>> DropHead(0.2, head_dim=-3)
        DropHead(p=0.2, head_dim=-3)
    """

    head_dim: int = 1
    per: str = "sample"
    extras: ClassVar[Mapping[str, Any]] = {"head_dim": 1, "per": "sample"}

    def __init__(self, p: float = 0.1, *, head_dim: int = 1, per: str = "sample") -> None:
        super().__init__()
        self.p, self.head_dim, self.per = p, _check_integer(head_dim), _check_per(per)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `drop_head`.

        Args:
            input: the output of each head.
        """
        return drop_head(input, self.current_rate(), self.training, head_dim=self.head_dim, per=self.per, stream=self.stream)


def _kept_heads(noise: Tensor, rate: Tensor, head_dim: int) -> Tensor:
    """Heads whose noise is not below the rate, and always the one with the most: no other head is kept without it."""
    heads = noise.shape[head_dim]
    place = [1] * noise.dim()
    place[head_dim] = heads
    number = torch.arange(heads, device=noise.device).view(place)
    return (noise >= rate) | (number == noise.argmax(head_dim, keepdim=True))


def _mask_shape(shape: torch.Size, head_dim: int, per: str) -> list[int]:
    rank = len(shape)
    if not -rank <= _check_integer(head_dim) < rank:
        raise InputError("head_dim is a dimension of the input", got=head_dim,
                         fix=f"The input's shape is {tuple(shape)}; name the dimension that counts the heads")
    kept = {head_dim % rank} | ({0} if per == "sample" else set())
    return [size if dim in kept else 1 for dim, size in enumerate(shape)]


def _check_integer(head_dim: Any) -> int:
    if isinstance(head_dim, bool) or not isinstance(head_dim, int):
        raise InputError("head_dim is an integer", got=head_dim, fix="Pass 1 for (N, H, T, D), or 2 for (N, T, H, D)")
    return head_dim


def _check_per(per: Any) -> str:
    if per not in ("sample", "batch"):
        raise InputError('per is "sample" or "batch"', got=per,
                         fix='"sample" decides for each example, "batch" once for all of them')
    return str(per)
