"""The network that the instruments are read on, and the examples that they look at."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from dropkit.core.streams import keyed, stream_number
from dropkit.study.partition import Partition
from dropkit.study.prepare import Prepared, outputs_of
from dropkit.surgery.modules import unwrap

_EXAMPLES = 128  # looked at
_BATCH = 32  # examples of a batch whose gradient is taken, at most
_BATCHES = 4
_NUMBERS = 1 << 22  # input values looked at in evaluation, at most: wide inputs make do with fewer examples
_FEWEST = 16  # but not with fewer than this


class Subject:
    """A network with the subset of its training examples that is looked at.

    Args:
        ready: the experiment.
        model: the network; the caller keeps it undisturbed.
        part: its data.
        seed: the run's; fixes the subset and, with ``step``, the masks.
        step: steps taken so far.
    """

    def __init__(self, ready: Prepared, model: nn.Module, part: Partition, seed: int, step: int) -> None:
        self.ready, self.model, self.part, self.seed, self.step = ready, unwrap(model), part, seed, step
        self.masks = stream_number(f"instruments:{seed}")

    @cached_property
    def x(self) -> Tensor:
        """The examples; the first of them make the batches."""
        return self.part.x_train[self._chosen]

    @cached_property
    def y(self) -> Tensor:
        """Their targets."""
        return self.part.y_train[self._chosen]

    @cached_property
    def in_evaluation(self) -> int:
        """How many of the examples, from the first on, are looked at in evaluation."""
        width = max(1, self.part.x_train[0].numel())
        return min(len(self.x), max(_FEWEST, _NUMBERS // width))

    @cached_property
    def batches(self) -> list[slice]:
        """Four batches of equal size; empty where there are too few examples."""
        wanted = min(self.ready.experiment.batch_size, _BATCH)
        size = min(wanted, len(self.x) // _BATCHES)
        return [slice(index * size, (index + 1) * size) for index in range(_BATCHES)] if size >= min(2, wanted) else []

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: x for name, x in self.model.named_parameters() if x.requires_grad and x.is_floating_point()}

    @cached_property
    def weight_layers(self) -> dict[str, nn.Module]:
        """The modules with a matrix among their trained parameters, by path."""
        layers = dict.fromkeys(layer_of(name) for name, x in self.parameters.items() if x.dim() > 1)
        modules = dict(self.model.named_modules())
        return {layer: modules[layer] for layer in layers
                if layer in modules and not isinstance(modules[layer], torch.jit.ScriptModule)}  # which takes no hooks

    def forward(self, chosen: slice, key: int) -> Tensor:
        """Return the outputs for some of the examples, what is random in it being that of ``key``."""
        with self.draws(key):
            return outputs_of(self.model, self.x[chosen].clone(), self.y[chosen])  # a forward may write into its input

    def draws(self, key: int) -> AbstractContextManager[None]:
        """Fix what is random, and return the context in which masks are those of ``key``."""
        number = stream_number(f"instruments:{self.seed}:{self.step}:{key}")
        torch.default_generator.manual_seed(number)  # torch.manual_seed keeps a stack trace for CUDA each time
        random.seed(number)
        np.random.seed(number % 2**32)
        return keyed(self.masks, step=self.step, pass_index=key)

    @cached_property
    def _chosen(self) -> Tensor:
        shuffled = torch.Generator().manual_seed(stream_number(f"instruments:{self.seed}"))
        return torch.randperm(len(self.part.x_train), generator=shuffled)[:_EXAMPLES]


def layer_of(parameter: str) -> str:
    """Return the path of the module that a parameter belongs to; of a parametrized one the module that uses it.

    Example:
        >>> layer_of("net.0.weight"), layer_of("0.parametrizations.weight.original0"), layer_of("scale")
        ('net.0', '0', '(model)')
    """
    owner = f".{parameter}".rpartition(".")[0].partition(".parametrizations")[0]
    return owner.removeprefix(".") or "(model)"
