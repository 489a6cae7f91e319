"""Mixout: dropout towards pretrained weights instead of towards zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.masks import compute_dtypes
from dropkit.core.streams import SAME
from dropkit.variants.draw import acting_rate, draw_masked
from dropkit.variants.layers import RatedLayer, apply_layer


def mixout(weight: Tensor, pretrained: Tensor, p: float | Tensor = 0.7, training: bool = True, *,
           generator: torch.Generator | None = None, stream: str | None = None) -> Tensor:
    """Replace single weights by their pretrained values at random in training.

    ``W' = (mix(W, W0) - p W0) / q`` with q = 1 - p: mix takes an element of W0 with probability p and of W otherwise. That is
    ``W' = W0 + (W - W0) m / q`` with the mask m of dropout: W0 takes the place that 0 has in dropout. At p = 1 it is W0.

    Args:
        weight: W, the parameter in training.
        pretrained: W0, of the same shape.
        p: probability of taking a pretrained value, in [0, 1]. Default: 0.7.
        training: whether to mix. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        A tensor like the weight; the weight itself where nothing is to be done.

    Raises:
        InputError: for a rate outside [0, 1], or shapes that differ.

    Shape:
        weight, pretrained: any, the same. Output: as the weight.

    Use:
        When fine-tuning a large pretrained model on few examples, on all of its linear layers: it holds the weights near
        their pretrained values.

    Rates:
        0.7 to 0.9.

    Evidence:
        The paper reports more stable fine-tuning of BERT-large on the small tasks of GLUE, with higher mean scores.

    Example:
        >>> mixout(torch.ones(2), torch.zeros(2), p=1.0)
        tensor([0., 0.])

    References:
        Lee, Cho, Kang: "Mixout: effective regularization to finetune large-scale pretrained language models", ICLR 2020.
    """
    if weight.shape != pretrained.shape:
        raise InputError("a weight is mixed with pretrained values of its shape", got=tuple(pretrained.shape),
                         fix=f"Pass values of shape {tuple(weight.shape)}")
    rate = acting_rate(p, training, generator, stream)
    if rate is None:
        return weight
    wide, _ = compute_dtypes(weight.dtype)
    change = weight.to(wide) - pretrained.to(wide)
    return (pretrained.to(wide) + draw_masked(change, rate, change.shape, generator, stream, rows=SAME)).to(weight.dtype)


class Mixout(RatedLayer):
    """A layer whose weights are mixed with their pretrained values in training; `mixout` as a module.

    The values that weight and bias have when the layer is adopted are the pretrained ones; they are kept as buffers.

    Args:
        layer: an ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d``, whose parameters become this module's.
        p: probability of taking a pretrained value, in [0, 1]. Default: 0.7.

    Raises:
        InputError: for a layer that cannot be adopted, or a rate outside [0, 1].

    Shape:
        As the layer's.

    Example:
        >>> layer = Mixout(nn.Linear(3, 4), 0.9)
        >>> sorted(layer.state_dict())
        ['bias', 'pretrained_bias', 'pretrained_weight', 'weight']
    """

    pretrained_weight: Tensor
    pretrained_bias: Tensor | None

    def __init__(self, layer: nn.Module, p: float = 0.7) -> None:
        super().__init__(layer, p)
        self.register_buffer("pretrained_weight", self.weight.detach().clone())
        self.register_buffer("pretrained_bias", None if self.bias is None else self.bias.detach().clone())

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer with mixed weights in training mode; see `mixout`.

        Args:
            input: what the layer takes.
        """
        p = self.current_rate()
        bias: Tensor | None = self.bias
        weight = mixout(self.weight, self.pretrained_weight, p, self.training, stream=self.stream)
        if bias is not None and self.pretrained_bias is not None:
            bias = mixout(bias, self.pretrained_bias, p, self.training, stream=self.stream)
        return apply_layer(input, weight, bias, self.geometry)
