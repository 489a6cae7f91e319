"""How a variant begins: does it act, at which rate, and which random numbers are its own in this call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dropkit.core.masks import INVERTED
from dropkit.core.rates import check_rate, is_symbolic
from dropkit.core.streams import rows_of, shard_of, site_key, skip_site
from dropkit.kernels.dispatch import apply_mask, apply_noise, keep_mask, noise


def acting_rate(p: float | Tensor, training: bool, generator: torch.Generator | None = None, stream: str | None = None, *,
                below_one: bool = False, uses: int = 1) -> Tensor | None:
    """The rate with which a site acts now, or None where it does nothing: in evaluation and at rate 0.

    Rate 0 in training counts as a use of the site (see `dropkit.core.streams.skip_site`). While a compiler traces, a rate
    is never burnt in, so 0 is not told apart from others.

    Args:
        p: the caller's rate, checked here unless it is the tensor of a module.
        training: whether the site may act.
        generator: the caller's.
        stream: the site's name.
        below_one: whether a rate of 1 is refused.
        uses: how many draws the site makes when it acts.

    Returns:
        A float64 CPU tensor with no dimensions, or None.

    Raises:
        InputError: for a rate out of range, in evaluation too.

    Example:
        >>> acting_rate(0.1, training=True)
        tensor(0.1000, dtype=torch.float64)
        >>> acting_rate(0.0, training=True) is acting_rate(0.5, training=False) is None
        True
    """
    if is_symbolic(p):
        return p if training else None
    rate = check_rate(p, below_one=below_one)
    if training and (rate > 0.0 or torch.compiler.is_compiling()):
        return torch.tensor(rate, dtype=torch.float64, device="cpu")
    if training and generator is None:
        for _ in range(uses):
            skip_site(stream)
    return None


def draw_masked(x: Tensor, rate: Tensor, mask_shape: Sequence[int], generator: torch.Generator | None = None,
                stream: str | None = None, *, scaling: int = INVERTED, rows: str | None = None) -> Tensor:
    """Zero elements of x with the site's next mask; see `dropkit.kernels.dispatch.apply_mask`.

    Args:
        x: floating-point data.
        rate: what `acting_rate` returned.
        mask_shape: x's shape with size 1 where the mask is shared.
        generator: the caller's.
        stream: the site's name.
        scaling: what kept elements are multiplied by, as in `dropkit.core.masks`.
        rows: `SAME` or `FRESH` of `dropkit.core.streams` for masks whose first dimension is not the examples'. Default: told
            from the shape, as `dropkit.core.streams.rows_of` does.

    Example:
        >>> draw_masked(torch.ones(2), torch.tensor(1.0, dtype=torch.float64), (2,))
        tensor([0., 0.])
    """
    rows = rows or rows_of(mask_shape, generator)
    seed, number = site_key(stream, generator, rows)
    return apply_mask(x, seed, rate, mask_shape, number, scaling, **shard_of(mask_shape, rows))


def draw_keep(shape: Sequence[int], rate: Tensor, generator: torch.Generator | None = None, stream: str | None = None, *,
              device: torch.device | str = "cpu", rows: str | None = None) -> Tensor:
    """The site's next mask as a bool tensor: true, with probability 1 - rate, where something is kept.

    Args:
        shape: the mask's shape.
        rate: what `acting_rate` returned.
        generator: the caller's.
        stream: the site's name.
        device: where the mask is wanted.
        rows: as in `draw_masked`.

    Example:
        >>> draw_keep((2,), torch.tensor(1.0, dtype=torch.float64))
        tensor([False, False])
    """
    rows = rows or rows_of(shape, generator)
    seed, number = site_key(stream, generator, rows)
    return keep_mask(shape, seed, rate, number, device=device, **shard_of(shape, rows))


def draw_noise(shape: Sequence[int], law: str, generator: torch.Generator | None = None, stream: str | None = None, *,
               device: torch.device | str = "cpu", rows: str | None = None) -> Tensor:
    """The site's next noise, float32: ``"uniform"`` on (0, 1) or standard ``"normal"``.

    Args:
        shape: the noise's shape.
        law: ``"uniform"`` or ``"normal"``.
        generator: the caller's.
        stream: the site's name.
        device: where the noise is wanted.
        rows: as in `draw_masked`.

    Example:
        >>> draw_noise((2,), "normal").dtype
        torch.float32
    """
    rows = rows or rows_of(shape, generator)
    seed, number = site_key(stream, generator, rows)
    return noise(shape, seed, law, number, device=device, **shard_of(shape, rows))


def draw_noisy(x: Tensor, strength: Tensor, law: str, mask_shape: Sequence[int], generator: torch.Generator | None = None,
               stream: str | None = None) -> Tensor:
    """Multiply x by ``1 + strength * e`` with the site's next noise; see `dropkit.kernels.dispatch.apply_noise`.

    Args:
        x: floating-point data.
        strength: float64 CPU tensor with no dimensions.
        law: ``"uniform"``, here on (-1, 1), or standard ``"normal"``.
        mask_shape: x's shape with size 1 where the noise is shared.
        generator: the caller's.
        stream: the site's name.

    Example:
        >>> draw_noisy(torch.ones(2), torch.tensor(0.0, dtype=torch.float64), "normal", (2,))
        tensor([1., 1.])
    """
    rows = rows_of(mask_shape, generator)
    seed, number = site_key(stream, generator, rows)
    return apply_noise(x, seed, strength, law, mask_shape, number, **shard_of(mask_shape, rows))
