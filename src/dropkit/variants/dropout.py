"""Dropout of single elements, or of elements that share a decision along chosen dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import INVERTED, check_data, check_dims, check_scaling, compute_dtypes, mask_shape
from dropkit.core.rates import check_rate, is_symbolic
from dropkit.core.streams import is_free, rows_of, shard_of, site_key, skip_site
from dropkit.kernels.dispatch import add_masked, apply_mask, apply_mask_inplace, can_draw, draw_and_apply
from dropkit.variants.site import DropoutSite


def dropout(x: Tensor, p: float | Tensor = 0.5, training: bool = True, inplace: bool = False, *, share_dims: Iterable[int] = (),
            scaling: str = "inverted", generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Zero elements at random in training.

    With inverted scaling ``y = x * m / (1 - p)`` in training and ``y = x`` in evaluation; with classic scaling
    ``y = x * m`` in training and ``y = x * (1 - p)`` in evaluation. x is the input, p the rate, and m the mask, whose
    entries are 0 with probability p and otherwise 1, independently. A dropped value is 0 even where x is infinite or
    NaN, and its gradient is 0.

    Args:
        x: data of a floating-point type.
        p: probability of dropping, in [0, 1]; a tensor with no dimensions counts as a number. Default: 0.5.
        training: whether to drop. Default: True, as in ``torch.nn.functional.dropout``.
        inplace: write into x and return it. Default: False.
        share_dims: dimensions along which all elements share one decision, such as time in ``(batch, time, features)``.
        scaling: ``"inverted"`` or ``"classic"``.
        generator: draw the seed from here instead of PyTorch's default generator or the keyed context.
        stream: the site's name under ``dk.keyed``; calls without one are known by their order.

    Returns:
        A tensor like x; x itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, unknown scaling or wrong dimensions.

    Shape:
        x: any. Output: as x.

    Use:
        After the activation of wide fully connected layers, and in transformers after the embedding, on attention weights
        and at the end of each block. Neighbouring elements of images and sequences say nearly the same, so single zeros
        teach a convolution little: drop channels or blocks there. Not just before batch normalisation, whose
        statistics differ between training and evaluation then.

    Rates:
        0.5 in hidden layers, 0.2 on inputs, 0.1 in transformers.

    Evidence:
        The paper cited second compares networks with and without it on images, speech, text and gene data, and finds
        fewer errors with it on all but the smallest training sets. Transformers were introduced with a rate of 0.1
        (Vaswani et al.: "Attention is all you need", NeurIPS 2017). On your own data ask ``dropkit study``.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> y = dropout(torch.ones(2, 3, 4), p=0.5, share_dims=(1,))
        >>> bool((y == y[:, :1]).all()), y.unique()
        (True, tensor([0., 2.]))

    References:
        Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov: "Improving neural networks by preventing co-adaptation
        of feature detectors", 2012. Srivastava et al.: "Dropout: a simple way to prevent neural networks from
        overfitting", JMLR 2014.
    """
    if (training and type(p) is float and 0.0 < p < 1.0 and not inplace and scaling == "inverted" and is_free(generator)
            and can_draw(x)):  # the usual call, kept cheap for small tensors
        if generator is None and not share_dims:
            return draw_and_apply(x, p)
        return draw_and_apply(x, p, generator, mask_shape(x.shape, share_dims))
    if torch.compiler.is_compiling() or is_symbolic(p):
        return _traced(x, p, training, inplace, share_dims, check_scaling(scaling), generator, stream)
    rate, inverted = check_rate(p), check_scaling(scaling)
    if not training:
        return x if inverted else _times_keep(x, rate, inplace)
    if rate == 0.0:
        if generator is None:
            skip_site(stream)
        return x
    shape = mask_shape(check_data(x).shape, share_dims)
    rows = rows_of(shape, generator)
    seed, number = site_key(stream, generator, rows)
    masked = apply_mask_inplace if inplace else apply_mask
    drop = torch.tensor(rate, dtype=torch.float64, device="cpu")
    return masked(x, seed, drop, shape, number, inverted, **shard_of(shape, rows))


def dropout_add(x: Tensor, residual: Tensor, p: float = 0.5, training: bool = True, *,
                generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Add a residual to what dropout leaves: ``residual + dropout(x, p)`` in one pass over memory.

    ``y = residual + x * m / (1 - p)`` in training and ``y = residual + x`` in evaluation, computed in float32 (float64 for
    float64 data) and rounded once; x is the branch, p the rate, m the mask as in `dropout`, whose seeds and streams it shares.

    Args:
        x: the branch, of a floating-point type.
        residual: of x's shape, type and device.
        p: probability of dropping an element of x, in [0, 1]. Default: 0.5.
        training: whether to drop. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Raises:
        InputError: for a rate outside [0, 1], integer data in training, or a residual that does not match x.

    Shape:
        x, residual, output: any, all the same.

    Example:
        >>> dropout_add(torch.ones(3), torch.ones(3), p=1.0)
        tensor([1., 1., 1.])
    """
    rate = check_rate(p)
    if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
        raise InputError("a residual has the shape, type and device of x", fix="Expand or convert it",
                         got=phrase(f"{tuple(residual.shape)} {residual.dtype} on {residual.device} for "
                                    f"{tuple(x.shape)} {x.dtype} on {x.device}"))
    if not training:
        return residual + x
    if rate == 0.0:
        if generator is None:
            skip_site(stream)
        return residual + x
    rows = rows_of(x.shape, generator)
    seed, number = site_key(stream, generator, rows)
    drop = torch.tensor(rate, dtype=torch.float64, device="cpu")
    return add_masked(residual, check_data(x), seed, drop, x.shape, number, INVERTED, **shard_of(x.shape, rows))


class Dropout(DropoutSite):
    """Zero elements at random in training; `dropout` as a module.

    Args:
        p: probability of dropping, in [0, 1]. Default: 0.5.
        inplace: write into the input and return it. Default: False.
        share_dims: dimensions along which all elements share one decision.
        scaling: ``"inverted"`` scales survivors in training, ``"classic"`` everything in evaluation.

    Raises:
        InputError: for a rate outside [0, 1], unknown scaling, or dimensions that are not integers.

    Shape:
        Input: any. Output: as the input.

    Example:
        >>> Dropout(0.2, share_dims=(1,))
        Dropout(p=0.2, inplace=False, share_dims=(1,))
    """

    share_dims: tuple[int, ...] = ()
    scaling: str = "inverted"
    extras: ClassVar[Mapping[str, Any]] = {"share_dims": (), "scaling": "inverted"}

    def __init__(self, p: float = 0.5, inplace: bool = False, *, share_dims: Iterable[int] = (),
                 scaling: str = "inverted") -> None:
        super().__init__(p, inplace)
        check_scaling(scaling)
        self.share_dims, self.scaling = check_dims(share_dims), scaling

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training mode; see `dropout`.

        Args:
            input: floating-point data of any shape.
        """
        return dropout(input, self.current_rate(), self.training, self.inplace, share_dims=self.share_dims,
                       scaling=self.scaling, stream=self.stream)


def _traced(x: Tensor, p: float | Tensor, training: bool, inplace: bool, share_dims: Iterable[int], inverted: int,
            generator: torch.Generator | None, stream: str | None) -> Tensor:
    """Drop while a compiler traces or rates are batched: the rate stays a tensor, so that 0 recompiles nothing either."""
    if not training and inverted:
        return x
    rate = p if isinstance(p, Tensor) else torch.tensor(check_rate(p), dtype=torch.float64, device="cpu")
    if training:
        shape = mask_shape(check_data(x).shape, share_dims)
        rows = rows_of(shape, generator)
        seed, number = site_key(stream, generator, rows)
        y = apply_mask(x, seed, rate, shape, number, inverted, **shard_of(shape, rows))
    else:
        wide, factor = compute_dtypes(x.dtype)
        y = torch.where((rate < 1).to(x.device), x.to(wide) * (1 - rate).to(x.device, factor), 0).to(x.dtype)
    return x.copy_(y) if inplace else y


def _times_keep(x: Tensor, rate: float, inplace: bool) -> Tensor:
    """Classic scaling's evaluation; a rate of 1 leaves nothing, infinities and NaN included, as in training."""
    if rate == 0.0:
        return x
    keep = 1.0 - rate
    if inplace:
        return x.mul_(keep) if keep else x.masked_fill_(torch.ones_like(x, dtype=torch.bool), 0)
    return x * keep if keep else x.masked_fill(torch.ones_like(x, dtype=torch.bool), 0)
