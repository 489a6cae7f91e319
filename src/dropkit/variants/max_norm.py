"""Max-norm: the companion of dropout that bounds the weights into each unit."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dropkit.core.errors import InputError
from dropkit.core.masks import compute_dtypes
from dropkit.variants.layers import AdoptedLayer

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, AdoptedLayer, *_TRANSPOSED)


@torch.no_grad()
def max_norm_(weight: Tensor, c: float = 3.0, dim: int = 0, *, groups: int = 1) -> Tensor:
    """Scale the weights into each output unit down to a norm of at most c, in place.

    ``w <- w min(1, c / |w|)`` for the vector w of all weights into a unit, |w| its Euclidean norm.

    Args:
        weight: of a layer.
        c: the bound, above 0. Default: 3.
        dim: the dimension of output units: 0, or 1 for transposed convolutions. Default: 0.
        groups: of a transposed convolution, each with units of its own along ``dim`` and inputs along dimension 0. Where
            units come first groups change nothing. Default: 1.

    Returns:
        The weight, whose norms are at most c but for rounding.

    Raises:
        InputError: for a bound that is not above 0, or a weight of fewer than 2 dimensions.

    Shape:
        weight: (outputs, inputs, ...), or (inputs, outputs, ...) with ``dim=1``.

    Example:
        >>> max_norm_(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), c=1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    bound = _check_bound(c)
    if weight.dim() < 2:
        raise InputError("a weight to bound has the dimensions of outputs and inputs", got=tuple(weight.shape),
                         fix="Biases and the scales of norms are not bound; leave them out")
    unit, data = dim % weight.dim(), weight.detach()
    parts = data.chunk(groups) if unit > 0 and groups > 1 else (data,)
    wide, _ = compute_dtypes(weight.dtype)
    for part in parts:  # `renorm_` divides by a norm 1e-7 larger, so that zeros stay zeros
        if part.dtype is wide:
            part.renorm_(2, unit, bound)
        else:  # it would round the factor to low precision, and then the product
            part.copy_(part.to(wide).renorm_(2, unit, bound))
    return weight


class MaxNorm:
    """Bound the norm of the weights into each unit of a model's layers, after each step of the optimiser.

    Linear layers and convolutions are bound, transposed ones and those that a variant took over included; biases, norms,
    recurrent layers and embeddings are not, nor are weights that something computes, as ``weight_norm`` does, or that are
    frozen (``requires_grad=False``). A weight that is shared is bound once.

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
        if not isinstance(model, nn.Module):
            raise InputError("max-norm bounds the weights of a model", got=model, fix="Pass the nn.Module")
        self.layers = [module for name, module in model.named_modules()
                       if isinstance(module, _LAYERS) and fnmatchcase(name, where)
                       and isinstance(module._parameters.get("weight"), nn.Parameter)]
        if not self.layers:
            raise InputError("a model with a bound on its weights has linear layers or convolutions that match", got=where,
                             fix='Pass where="*" for all of them')

    def __call__(self) -> None:
        """Bound the weights now."""
        seen: set[Tensor] = set()
        for layer in self.layers:
            weight = layer.weight
            if isinstance(weight, Tensor) and weight.requires_grad and weight not in seen:
                seen.add(weight)
                if isinstance(layer, _TRANSPOSED):
                    max_norm_(weight, self.c, 1, groups=layer.groups)
                else:
                    max_norm_(weight, self.c)

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Bound the weights after every step of an optimiser.

        Args:
            optimizer: of the model.

        Returns:
            A handle whose ``remove()`` ends it.
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise InputError("max-norm follows the steps of a torch optimiser", got=optimizer,
                             fix="Pass the optimiser, or call the MaxNorm itself after each step")
        return optimizer.register_step_post_hook(lambda *_: self())


def _check_bound(c: Any) -> float:
    if isinstance(c, bool) or not isinstance(c, int | float) or not 0 < c < float("inf"):
        raise InputError("c is a norm, a number above 0", got=c, fix="Pass a float such as 3.0")
    return float(c)
