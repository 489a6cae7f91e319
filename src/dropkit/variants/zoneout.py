"""Zoneout: units that keep their old value at random."""

from __future__ import annotations

import torch
from torch import Tensor

from dropkit.core.errors import InputError, phrase
from dropkit.core.masks import check_data, compute_dtypes
from dropkit.core.rates import check_rate
from dropkit.variants.draw import acting_rate, draw_keep
from dropkit.variants.site import RateSite


def zoneout(previous: Tensor, new: Tensor, p: float | Tensor = 0.1, training: bool = True, *,
            generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Let units keep their old value at random in training, and mix old and new values in evaluation.

    ``h_t = m h_{t-1} + (1 - m) h'_t`` in training and ``h_t = p h_{t-1} + (1 - p) h'_t`` in evaluation; h' is the new state
    that the cell proposes, and m a mask whose entries are 1 with probability p, the rate, and otherwise 0. p is the probability
    of keeping the **old** value: it is the update that is dropped, so rate 0 is the plain cell and rate 1 never changes.

    Args:
        previous: the state before the step, of a floating-point type.
        new: the state that the cell proposes, of the same shape and type.
        p: probability of keeping the old value of a unit, in [0, 1]. Default: 0.1.
        training: whether to draw. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        The state after the step; ``new`` itself at rate 0.

    Raises:
        InputError: for a rate outside [0, 1], integer data, or states that differ in shape or type.

    Shape:
        previous, new, output: any, all the same.

    Use:
        In a recurrent cell of your own, after each step, with a mask of its own at each; `zoneout_lstm` and its kin do it
        for torch's layers. Unlike dropout it never sets a state to 0, and its gradient passes unchanged through the steps
        where a unit stands still.

    Rates:
        0.5 for the memory and 0.05 for the state of an LSTM, the paper's choice for characters; half of both for words.

    Evidence:
        The paper reports gains over the plain LSTM on characters and words of Penn Treebank, on Text8 and on images read pixel
        by pixel. In the authors' first scripts rates stood for the probability of taking the new value.

    Example:
        >>> zoneout(torch.zeros(3), torch.ones(3), p=0.25, training=False)
        tensor([0.7500, 0.7500, 0.7500])

    References:
        Krueger et al.: "Zoneout: regularizing RNNs by randomly preserving hidden activations", ICLR 2017.
    """
    if check_data(new).shape != check_data(previous).shape or new.dtype != previous.dtype:
        raise InputError("old and new states have one shape and type", fix="Expand or convert one of them",
                         got=phrase(f"{tuple(previous.shape)} {previous.dtype} and {tuple(new.shape)} {new.dtype}"))
    rate = acting_rate(p, training, generator, stream)
    if rate is not None:
        return torch.where(draw_keep(new.shape, rate, generator, stream, device=new.device), new, previous)
    share = p if isinstance(p, Tensor) and torch.compiler.is_compiling() else check_rate(p)
    if training or (not isinstance(share, Tensor) and share == 0):
        return new
    wide = compute_dtypes(new.dtype)[0]
    share = share.to(new.device, wide) if isinstance(share, Tensor) else share
    return (share * previous.to(wide) + (1 - share) * new.to(wide)).to(new.dtype)


class Zoneout(RateSite):
    """Let units keep their old value at random; `zoneout` as a module.

    Args:
        p: probability of keeping the old value of a unit, in [0, 1]. Default: 0.1.

    Raises:
        InputError: for a rate outside [0, 1].

    Shape:
        previous, new, output: any, all the same.

    Example:
        >>> Zoneout(0.05)
        Zoneout(p=0.05)
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = p

    def forward(self, previous: Tensor, new: Tensor) -> Tensor:
        """Keep old values in training mode, mix in evaluation; see `zoneout`.

        Args:
            previous: the state before the step.
            new: the state that the cell proposes.
        """
        return zoneout(previous, new, self.current_rate(), self.training, stream=self.stream)
