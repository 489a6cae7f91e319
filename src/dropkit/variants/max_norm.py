"""Max-norm: the companion of dropout that bounds the weights into each unit."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dropkit.core.errors import InputError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def max_norm_(weight: Tensor, c: float = 3.0, dim: int = 0) -> Tensor:
    """Scale the weights into each output unit down to a norm of at most c, in place.

    ``w <- w min(1, c / |w|)`` for the vector w of all weights into a unit, |w| its Euclidean norm.

    Args:
        weight: of a layer.
        c: the bound, above 0. Default: 3.
        dim: the dimension of output units. Default: 0.

    Returns:
        The weight.

    Raises:
        InputError: for a bound that is not above 0.

    Example:
        >>> max_norm_(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), c=1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    bound = _check_bound(c)
    others = tuple(d for d in range(weight.dim()) if d != dim % weight.dim())
    wide = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
    norm = torch.linalg.vector_norm(wide, dim=others, keepdim=True)
    return weight.copy_(torch.where(norm > bound, wide * (bound / norm), wide))


class MaxNorm:
    """Bound the norm of the weights into each unit of a model's layers, after each step of the optimiser.

    Linear layers and convolutions, transposed ones included, are bound; biases, norms and embeddings are not. A weight that is
    shared is bound once.

    Args:
        model: any module.
        c: the bound, above 0; 2 to 4 are usual. Default: 3.
        where: a glob of names of modules. Default: all.

    Raises:
        InputError: for a bound that is not above 0, or when no layer matches.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> handle = MaxNorm(model, c=3.0).attach(optimizer)     # or call it after each step

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to prevent neural networks from
        overfitting", JMLR 2014, section 5.1.
    """

    def __init__(self, model: nn.Module, c: float = 3.0, where: str = "*") -> None:
        self.c = _check_bound(c)
        self.layers = [module for name, module in model.named_modules()
                       if isinstance(module, _LAYERS) and fnmatchcase(name, where)]
        if not self.layers:
            raise InputError("a model with a bound on its weights has linear layers or convolutions that match", got=where,
                             fix='Pass where="*" for all of them')

    def __call__(self) -> None:
        """Bound the weights now."""
        seen: set[Tensor] = set()
        for layer in self.layers:
            weight = layer.weight
            if isinstance(weight, Tensor) and weight not in seen:
                seen.add(weight)
                max_norm_(weight, self.c, 1 if isinstance(layer, _TRANSPOSED) else 0)

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Bound the weights after every step of an optimiser.

        Args:
            optimizer: of the model.

        Returns:
            A handle whose ``remove()`` ends it.
        """
        return optimizer.register_step_post_hook(lambda *_: self())


def _check_bound(c: Any) -> float:
    if isinstance(c, bool) or not isinstance(c, int | float) or not 0 < c < float("inf"):
        raise InputError("c is a norm, a number above 0", got=c, fix="Pass a float such as 3.0")
    return float(c)
