"""LayerDrop: a list of layers of which each is skipped at random in training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.rates import check_rate
from dropkit.core.streams import is_keyed, site_key, skip_site
from dropkit.kernels.dispatch import keep_mask
from dropkit.variants.site import RateSite


def layer_drop(count: int, p: float | Tensor = 0.2, training: bool = True, *, generator: torch.Generator | None = None,
               stream: str | None = None) -> tuple[bool, ...]:
    """Decide for each of a stack of layers whether it runs in this pass.

    Layer i of L is skipped with probability p, independently of the others: ``x <- f_i(x)`` if ``m_i = 1``, else x stays.
    Nothing is rescaled. In a process group of ``torch.distributed`` all ranks decide alike: outside ``dk.keyed`` and
    without a generator the seed that rank 0 draws is sent to all, so that all ranks have to call this together. Inside
    ``dk.keyed`` nothing is sent, and all ranks decide alike if they have the same key.

    Args:
        count: the number L of layers, at least 0.
        p: probability of skipping a layer, in [0, 1]. Default: 0.2.
        training: whether to skip any. Default: True.
        generator: draw the seed from here.
        stream: the site's name under ``dk.keyed``.

    Returns:
        For each layer whether it runs.

    Raises:
        InputError: for a rate outside [0, 1], or a count that is not an integer of at least 0.

    Shape:
        Output: a tuple of ``count`` bools.

    Use:
        In transformers of at least six layers, for regularisation and so that layers can be removed after training
        without fine-tuning (`LayerDrop.kept_every`).

    Rates:
        0.2; 0.5 when half of the layers are to be removed later.

    Evidence:
        The paper reports better language models and translation with a rate of 0.2, and that pruning every other layer
        of a network trained so costs little.

    Example:
        >>> layer_drop(3, 1.0), layer_drop(3, training=False)
        ((False, False, False), (True, True, True))

    References:
        Fan, Grave, Joulin: "Reducing transformer depth on demand with structured dropout", ICLR 2020.
    """
    rate = check_rate(p)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise InputError("count is a number of layers, at least 0", got=count, fix="Pass an int such as len(layers)")
    if not training or rate == 0.0:
        if training and generator is None:
            skip_site(stream)
        return (True,) * count
    seed, number = site_key(stream, generator)
    if generator is None and not is_keyed() and _has_ranks():
        seed = _of_first_rank(seed)
    return tuple(keep_mask((count,), seed, torch.tensor(rate, dtype=torch.float64, device="cpu"), number).tolist())


class LayerDrop(RateSite, nn.ModuleList):
    """A list of layers that run one after the other, each skipped at random in training; see `layer_drop`.

    It is a ``ModuleList``: iterating, indexing and its ``state_dict`` never depend on chance. ``forward`` runs the layers; a
    model with a loop of its own asks `chosen` which ones run.

    Under ``DistributedDataParallel`` all ranks skip the same layers, and the parameters of skipped layers take part in
    the graph with zero gradients (``safe=True``), so that none counts as unused. The price is that optimisers then treat
    them as trained: momentum and weight decay act on them.

    Args:
        layers: modules that take and return a tensor, or a tuple that begins with it.
        p: probability of skipping a layer, in [0, 1]. Default: 0.2.
        safe: whether skipped layers' parameters get zero gradients; ``None`` means only when a process group is up.

    Raises:
        InputError: for a rate outside [0, 1], layers that are not modules, or a ``safe`` that is none of True, False and None.

    Shape:
        Input: what the first layer takes. Output: what the last layer that runs returns.

    Example:
        >>> stack = LayerDrop([nn.Linear(2, 2), nn.Linear(2, 2)], p=0.5)
        >>> len(list(stack)), stack(torch.ones(1, 2)).shape
        (2, torch.Size([1, 2]))
    """

    def __init__(self, layers: Iterable[nn.Module] | None = None, p: float = 0.2, *, safe: bool | None = None) -> None:
        super().__init__(_check_layers(layers))
        if safe not in (True, False, None):
            raise InputError("safe is True, False or None", got=safe, fix="None decides by whether a process group is up")
        self.p, self.safe = p, safe

    def __getitem__(self, index: Any) -> Any:
        """One layer, or for a slice a stack of some of them with the same rate, setting and mode."""
        found = super().__getitem__(index)
        if isinstance(found, LayerDrop) and isinstance(index, slice):
            found.p, found.safe = self.p, self.safe
            found.training = self.training  # a new module is in training mode, and would drop
        return found

    def chosen(self) -> tuple[bool, ...]:
        """Draw which layers run in this pass, all of them in evaluation."""
        return layer_drop(len(self), self.p, self.training, stream=self.stream)

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the layers that were chosen, each on what the one before returned.

        Args:
            input: the first layer's first argument.
            args: further arguments of every layer.
            kwargs: keyword arguments of every layer.
        """
        x = input
        for layer, runs in zip(self, self.chosen(), strict=True):
            if runs:
                x = layer(x, *args, **kwargs)
            elif self._keeps_all_in_the_graph():
                x = _with_zero_gradients(x, layer)
        return x

    def kept_every(self, k: int) -> list[int]:
        """Say which layers remain when every k-th one is removed for good, as the paper does after training.

        Args:
            k: at least 2; 2 removes every other layer.

        Raises:
            InputError: for a k below 2.

        Example:
            >>> LayerDrop([nn.Identity() for _ in range(4)]).kept_every(2)
            [0, 2]
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 2:
            raise InputError("k is an integer of at least 2", got=k, fix="Pass 2 to remove every other layer")
        return [index for index in range(len(self)) if (index + 1) % k]

    __repr__ = nn.Module.__repr__  # a list's own leaves the rate out

    def extra_repr(self) -> str:
        """The rate."""
        return f"p={self.p}"

    def _keeps_all_in_the_graph(self) -> bool:
        if self.safe is None:
            return _has_ranks()
        return self.safe


def _has_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _of_first_rank(seed: Tensor) -> Tensor:
    """One seed for all ranks: each has drawn, so that their generators stay in step, and rank 0's counts."""
    on_device = torch.distributed.get_backend() == "nccl"
    shared = seed.cuda() if on_device else seed.clone()
    torch.distributed.broadcast(shared, src=0)
    return shared.cpu()


def _with_zero_gradients(x: Any, layer: nn.Module) -> Any:
    # Selected, not multiplied by 0: a NaN or infinite parameter of a skipped layer must not get into the output.
    value = x[0] if isinstance(x, tuple) else x
    never = torch.zeros((), dtype=torch.bool, device=value.device)
    zero = torch.zeros((), dtype=value.dtype, device=value.device)
    for parameter in layer.parameters():
        if parameter.requires_grad and parameter.numel():
            zero = zero + torch.where(never, parameter.reshape(-1)[0].to(value), 0.0)
    return (value + zero, *x[1:]) if isinstance(x, tuple) else value + zero


def _check_layers(layers: Iterable[nn.Module] | None) -> Iterable[nn.Module] | None:
    found = layers if layers is None or not isinstance(layers, Iterable) else list(layers)
    if found is not None and not (isinstance(found, list) and all(isinstance(layer, nn.Module) for layer in found)):
        raise InputError("layers are modules, in their order", got=found, fix="Pass a list of nn.Module")
    return found
