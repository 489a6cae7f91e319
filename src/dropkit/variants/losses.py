"""Losses for training with dropout."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dropkit.core.errors import InputError, phrase


def r_drop_loss(first: Tensor, second: Tensor, target: Tensor, alpha: float = 1.0, *, ignore_index: int = -100) -> Tensor:
    """The R-Drop loss of two stochastic passes over the same batch.

    ``(CE(z1, t) + CE(z2, t)) / 2 + alpha (KL(P1 || P2) + KL(P2 || P1)) / 2``, each term averaged over the targets that count:
    z1 and z2 are the logits of the passes, P1 and P2 their softmax, t the targets. Computed in float32 at least.

    Args:
        first: logits of one pass, classes in dimension 1.
        second: logits of another pass with other masks.
        target: class numbers.
        alpha: weight of the divergence, a finite number of at least 0. Default: 1.
        ignore_index: targets of this value count in no term.

    Returns:
        A tensor with no dimensions; 0 where no target counts.

    Raises:
        InputError: for logits of different shapes, a target that does not fit, or a negative alpha.

    Shape:
        first, second: (N, C, ...). target: (N, ...). Output: ().

    Use:
        Run the model twice on a batch, or once on the batch joined to itself, and pass both halves of the logits. Both
        passes need masks of their own: inside ``dk.keyed`` two calls of one model have them. A step costs two passes.

    Rates:
        Search alpha for the task: the paper's best values differ between tasks, and 0 is the mean cross-entropy.

    Evidence:
        The paper reports gains in translation, summarisation, language understanding, language modelling and image
        classification.

    Example:
        >>> z = torch.zeros(2, 3)
        >>> round(float(r_drop_loss(z, z, torch.tensor([0, 1]))), 4)  # log 3, and no divergence
        1.0986

    References:
        Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu: "R-Drop: regularized dropout for neural networks", NeurIPS 2021.
        The snippet published with it sums the divergence over the batch while the cross-entropy is a mean, so that there the
        weight of the divergence grows with the batch.
    """
    if first.shape != second.shape or first.dim() < 2:
        raise InputError("the two passes have logits of one shape (N, C, ...)", fix="Pass the logits of the same batch twice",
                         got=phrase(f"{tuple(first.shape)} and {tuple(second.shape)}"))
    if target.shape != first.shape[:1] + first.shape[2:]:
        raise InputError("a target has the logits' shape without the classes", got=tuple(target.shape),
                         fix=f"Pass class numbers of shape {tuple(first.shape[:1] + first.shape[2:])}")
    _check_alpha(alpha)
    wide = torch.promote_types(first.dtype, torch.float32)
    one, two = (F.log_softmax(logits.to(wide), 1) for logits in (first, second))
    counts = target != ignore_index
    entropy = sum((F.nll_loss(log, target, ignore_index=ignore_index, reduction="none") for log in (one, two)),
                  torch.zeros((), dtype=wide, device=first.device))
    # KL12 + KL21 = sum over classes of (P1 - P2) (log P1 - log P2); a class of probability 0 in both adds nothing.
    gap = torch.where(one.isneginf() & two.isneginf(), 0.0, one - two)
    divergence = ((one.exp() - two.exp()) * gap).sum(1)
    total = entropy + alpha * divergence if alpha else entropy  # an infinite divergence times 0 would be NaN
    return torch.where(counts, total, 0.0).sum() / (2 * counts.sum().clamp(min=1))


def _check_alpha(alpha: Any) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise InputError("alpha is a finite number of at least 0", got=alpha, fix="Pass a float such as 1.0")
