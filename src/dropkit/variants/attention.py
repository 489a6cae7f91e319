"""Dropout of attention weights, and scaled dot-product attention that does not drop in evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data, check_dims, compute_dtypes
from dropkit.core.streams import skip_site
from dropkit.variants.draw import acting_rate, draw_masked
from dropkit.variants.drop_attention import drop_attention
from dropkit.variants.drop_key import drop_key
from dropkit.variants.dropout import dropout
from dropkit.variants.site import DropoutSite, RateSite

_DROPS = ("attention", "key", "renormalised")


def attention_dropout(weights: Tensor, p: float | Tensor = 0.1, training: bool = True, inplace: bool = False, *,
                      share_dims: Iterable[int] = (), generator: torch.Generator | None = None,
                      stream: str | None = None) -> Tensor:
    """Zero attention weights at random in training.

    ``w' = w m / (1 - p)``; w are the weights after the softmax, p is the rate, m the mask, whose entries are 0 with
    probability p and otherwise 1, one for each pair of a query and a key.

    Args:
        weights: attention weights after the softmax, of a floating-point type.
        p: probability of dropping a weight, in [0, 1]. Default: 0.1.
        training: whether to drop. Default: True.
        inplace: write into the weights and return them. Default: False; the softmax needs its result for the backward pass.
        share_dims: dimensions along which all weights share one decision, such as (-3,) for all heads or (-2,) for all queries.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the weights; the weights themselves where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training or wrong dimensions.

    Shape:
        weights: any, usually (N, H, L, S) with L queries and S keys. Output: as the weights.

    Use:
        Between the softmax and the product with the values, as in the first transformers. The rows no longer sum to 1: a
        query may see more or less in training than the values hold. `drop_attention` and `drop_key` keep the sum. In a model
        that calls ``scaled_dot_product_attention``, use `scaled_dot_product_attention`.

    Rates:
        0.1, usually the same as elsewhere in the model; 0 in large models trained for one pass over the data.

    Evidence:
        It is what implementations of the transformer do; the paper cited here itself names dropout of sublayers and
        embeddings only, with a rate of 0.1. `drop_key` and `drop_attention` cite work that finds other places better.

    Example:
        >>> attention_dropout(torch.full((1, 2, 2), 0.5), p=1.0)
        tensor([[[0., 0.],
                 [0., 0.]]])

    References:
        Vaswani et al.: "Attention is all you need", NeurIPS 2017.
    """
    return dropout(weights, p, training, inplace, share_dims=share_dims, generator=generator, stream=stream)


class AttentionDropout(DropoutSite):
    """Zero attention weights at random in training; `attention_dropout` as a module.

    Args:
        p: probability of dropping a weight, in [0, 1]. Default: 0.1.
        inplace: write into the input and return it. Default: False.
        share_dims: dimensions along which all weights share one decision.

    Raises:
        InputError: for a rate outside [0, 1], or dimensions that are not integers.

    Shape:
        Input: any, usually (N, H, L, S). Output: as the input.

    Example:
        >>> AttentionDropout()
        AttentionDropout(p=0.1, inplace=False)
    """

    share_dims: tuple[int, ...] = ()
    extras: ClassVar[Mapping[str, Any]] = {"share_dims": ()}

    def __init__(self, p: float = 0.1, inplace: bool = False, *, share_dims: Iterable[int] = ()) -> None:
        super().__init__(p, inplace)
        self.share_dims = check_dims(share_dims)

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `attention_dropout`.

        Args:
            input: attention weights after the softmax.
        """
        return attention_dropout(input, self.current_rate(), self.training, self.inplace, share_dims=self.share_dims,
                                 stream=self.stream)


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
                                 p: float | Tensor = 0.0, training: bool = True, *, is_causal: bool = False,
                                 scale: float | None = None, enable_gqa: bool = False, drop: str = "attention",
                                 generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Attention of queries to keys with dropout in training only: torch's function with a ``training`` flag.

    ``y = d(softmax(s q k^T + b)) v``; q, k and v are query, key and value, s is the scale, b is 0 or the mask, with -inf where
    it hides a key, and d drops with rate p in training: ``d(w) = w m / (1 - p)``, m being 0 with probability p and otherwise 1.
    In evaluation and at rate 0, d does nothing, and PyTorch's fused kernels are called. A query that may attend to no key gets
    zeros, in output and gradient.

    Args:
        query: floating-point data.
        key: of the query's type.
        value: of the query's type.
        attn_mask: bool, true where a query may attend, or floating-point, of any such type, and added to the scores;
            broadcast to (..., L, S).
        p: probability of dropping, in [0, 1]. Default: 0.0.
        training: whether to drop. Default: True.
        is_causal: whether query i attends to keys 0 to i only; not together with ``attn_mask``. Default: False.
        scale: what scores are multiplied by. Default: ``1 / sqrt(E)``.
        enable_gqa: whether groups of query heads share a head of key and value. Default: False.
        drop: ``"attention"`` drops weights as `attention_dropout`, ``"key"`` hides keys as `drop_key`, ``"renormalised"`` drops
            weights and normalises the rows again as `drop_attention`.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor of the query's type.

    Raises:
        InputError: for a rate outside [0, 1], integer data, an unknown ``drop``, a mask of integers, of less than 2
            dimensions or together with ``is_causal``, or numbers of heads that do not divide.

    Shape:
        query: (..., Hq, L, E). key: (..., H, S, E). value: (..., H, S, Ev). Output: (..., Hq, L, Ev). H equals Hq, or, with
        ``enable_gqa``, divides it.

    Use:
        Wherever ``torch.nn.functional.scaled_dot_product_attention`` is called with a ``dropout_p``; pass ``self.training``.
        With dropout the weights of all pairs are held in memory, L S of them a head, in float32 for half-precision data; no
        fused kernel takes a mask of the contract. For long sequences prefer a rate of 0 here and dropout on the output.

    Rates:
        0.1 in small transformers, 0 in large ones.

    Evidence:
        Torch's function drops whenever its rate is not 0, in evaluation too (pytorch/pytorch issue 124464). Models that pass
        it a constant rate give random predictions; several published ones had to be repaired for that.

    Example:
        >>> q = torch.randn(1, 2, 3, 4)
        >>> y = scaled_dot_product_attention(q, q, q, p=0.5, training=False)
        >>> torch.equal(y, torch.nn.functional.scaled_dot_product_attention(q, q, q))
        True

    References:
        Vaswani et al.: "Attention is all you need", NeurIPS 2017. Ainslie et al.: "GQA: training generalized multi-query
        transformer models from multi-head checkpoints", EMNLP 2023.
    """
    _check(query, key, value, attn_mask, is_causal, enable_gqa, drop)
    rate = _rate(p, training, generator, stream)
    wide = compute_dtypes(query.dtype)[0]
    attn_mask, blocked = _split_mask(attn_mask, query.dtype if rate is None else wide)
    if rate is None:
        y = F.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)
    else:
        factor = scale if scale is not None else 1 / math.sqrt(max(1, query.shape[-1]))
        logits = _by_heads(query.to(wide) * factor, key.to(wide).mT, enable_gqa)
        logits = _masked(logits, attn_mask, is_causal)
        weights = _weights(logits, rate, drop, generator, stream)
        y = _by_heads(weights, value.to(wide), enable_gqa).to(query.dtype)
    return y if blocked is None else y.masked_fill(blocked, 0)


class ScaledDotProductAttention(RateSite):
    """Attention with dropout in training only; `scaled_dot_product_attention` as a module.

    Args:
        p: probability of dropping, in [0, 1]. Default: 0.1.
        drop: ``"attention"``, ``"key"`` or ``"renormalised"``.

    Raises:
        InputError: for a rate outside [0, 1] or an unknown ``drop``.

    Shape:
        As `scaled_dot_product_attention`'s.

    Example:
        >>> ScaledDotProductAttention(0.2, drop="key")
        ScaledDotProductAttention(p=0.2, drop='key')
    """

    drop: str = "attention"
    extras: ClassVar[Mapping[str, Any]] = {"drop": "attention"}

    def __init__(self, p: float = 0.1, *, drop: str = "attention") -> None:
        super().__init__()
        self.p, self.drop = p, _check_drop(drop)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False,
                scale: float | None = None, enable_gqa: bool = False) -> Tensor:
        """Attend, with dropout in training mode; see `scaled_dot_product_attention`.

        Args:
            query: (..., Hq, L, E).
            key: (..., H, S, E).
            value: (..., H, S, Ev).
            attn_mask: bool, true where a query may attend, or floating-point and added to the scores.
            is_causal: whether query i attends to keys 0 to i only.
            scale: what scores are multiplied by.
            enable_gqa: whether groups of query heads share a head of key and value.
        """
        return scaled_dot_product_attention(query, key, value, attn_mask, self.current_rate(), self.training, scale=scale,
                                            is_causal=is_causal, enable_gqa=enable_gqa, drop=self.drop, stream=self.stream)


def _rate(p: float | Tensor, training: bool, generator: torch.Generator | None, stream: str | None) -> Tensor | None:
    """`acting_rate`, but a plain 0 takes the fused kernels in compiled code too: it is the default, not a module's rate."""
    if torch.compiler.is_compiling() and not isinstance(p, Tensor) and p == 0:
        if training and generator is None:
            skip_site(stream)
        return None
    return acting_rate(p, training, generator, stream)


def _weights(logits: Tensor, rate: Tensor, drop: str, generator: torch.Generator | None, stream: str | None) -> Tensor:
    if drop == "key":
        return drop_key(logits, rate, generator=generator, stream=stream).softmax(-1)
    weights = logits.softmax(-1)
    if drop == "renormalised":
        return drop_attention(weights, rate, generator=generator, stream=stream)
    return draw_masked(weights, rate, weights.shape, generator, stream)


def _split_mask(attn_mask: Tensor | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
    """The mask with its fully masked rows opened, so that no softmax is 0 / 0, and which rows these are."""
    if attn_mask is None:
        return None, None
    if attn_mask.dtype is torch.bool:
        blocked = ~attn_mask.any(-1, keepdim=True)
        return attn_mask | blocked, blocked
    blocked = (attn_mask == -math.inf).all(-1, keepdim=True)
    return attn_mask.masked_fill(blocked, 0).to(dtype), blocked


def _masked(logits: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor:
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is None:
        return logits
    if attn_mask.dtype is torch.bool:
        return torch.where(attn_mask, logits, -math.inf)
    return logits + attn_mask


def _by_heads(a: Tensor, b: Tensor, grouped: bool) -> Tensor:
    """``a @ b``, where groups of a's heads share one of b's: they become rows of one matrix, so that b is not repeated."""
    if not grouped or a.shape[-3] == b.shape[-3]:
        return a @ b
    heads, size = b.shape[-3], a.shape[-3] // b.shape[-3]
    y = a.reshape(*a.shape[:-3], heads, size * a.shape[-2], a.shape[-1]) @ b
    return y.reshape(*y.shape[:-3], heads * size, a.shape[-2], b.shape[-1])


def _check(query: Any, key: Any, value: Any, attn_mask: Any, is_causal: bool, enable_gqa: bool, drop: str) -> None:
    _check_drop(drop)
    check_data(query)
    if attn_mask is not None and is_causal:
        raise InputError("a causal mask is not combined with another", got=phrase("attn_mask and is_causal=True"),
                         fix="Put both into attn_mask, as in mask & torch.ones(L, S, dtype=torch.bool).tril()")
    if attn_mask is not None and attn_mask.dtype is not torch.bool and not attn_mask.is_floating_point():
        raise InputError("attn_mask is bool, or floating-point and added to the scores", got=attn_mask.dtype,
                         fix="Convert it, as in mask.bool(), where true means that a query may attend")
    if attn_mask is not None and attn_mask.dim() < 2:
        raise InputError("attn_mask has dimensions for queries and keys", got=tuple(attn_mask.shape),
                         fix="Pass (L, S), or (1, S) for a mask of keys alone")
    if enable_gqa:
        heads = [tensor.shape[-3] if tensor.dim() > 2 else 0 for tensor in (query, key, value)]
        if any(shared == 0 or heads[0] % shared for shared in heads[1:]):
            raise InputError("with enable_gqa the heads of key and value divide those of query", got=tuple(heads),
                             fix="Pass tensors of shape (..., heads, length, size) with such numbers of heads")


def _check_drop(drop: Any) -> str:
    if drop not in _DROPS:
        raise InputError('drop is "attention", "key" or "renormalised"', got=drop, fix="Pass one of them")
    return str(drop)
