"""Outputs and targets of sequences: one label for each position of an example."""

from __future__ import annotations

from torch import Tensor

IGNORED = -100
"""The label of a position that counts for nothing, such as padding; PyTorch's losses leave it out, too."""


def rows(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and labels position by position, as a classification has them: (N, ..., K), (N, ...) -> (M, K), (M,).

    Those of a classification come back as they are.

    Example:
        >>> import torch
        >>> outputs, targets = rows(torch.zeros(2, 3, 5), torch.tensor([[0, 1, IGNORED], [4, 0, IGNORED]]))
        >>> outputs.shape, targets
        (torch.Size([6, 5]), tensor([   0,    1, -100,    4,    0, -100]))
    """
    return (outputs, targets) if targets.dim() == 1 else (outputs.flatten(0, -2), targets.flatten())


def counted(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the `rows` of the positions that have a label.

    Example:
        >>> import torch
        >>> counted(torch.zeros(1, 3, 5), torch.tensor([[2, 1, IGNORED]]))[1]
        tensor([2, 1])
    """
    if targets.dim() == 1:
        return outputs, targets
    outputs, targets = rows(outputs, targets)
    kept = targets != IGNORED
    return outputs[kept], targets[kept]
