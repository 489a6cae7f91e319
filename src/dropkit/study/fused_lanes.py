"""Networks of one structure side by side: parameters stacked, masks and rates of each its own."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from dropkit.core.errors import DropkitError
from dropkit.core.streams import keyed_pass
from dropkit.study.fused_linear import speed_linear
from dropkit.study.fused_losses import stacked_loss
from dropkit.study.fused_stack import stack_of
from dropkit.study.prepare import outputs_of
from dropkit.surgery.modules import rate_attribute, walk
from dropkit.surgery.route import RoutedCall, routing_of
from dropkit.surgery.sites import Site, sites
from dropkit.variants.site import RateSite

Loss = Callable[[Tensor, Tensor], Tensor]


class Unlike(DropkitError):
    """Networks that cannot be stacked, or not run side by side; the message says why."""


class Lanes:
    """Networks stacked into one, a lane each.

    The networks that were given stay whole: their parameters become views of the stacked ones, so that what an optimiser does
    to these shows in them.

    Args:
        models: of one structure; they may differ in weights, buffers and rates.

    Raises:
        Unlike: they differ in more, or hold parameters without a shape yet.

    Example:
        >>> models = [nn.Linear(2, 1) for _ in range(3)]
        >>> lanes = Lanes(models)
        >>> [tuple(tensor.shape) for tensor in lanes.parameters.values()]
        [(3, 1, 2), (3, 1)]
        >>> lanes.parameters["bias"].data.fill_(7.0)[2].item() == models[2].bias.item()
        True
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        _check_alike(models)
        self.models = list(models)
        self._net = copy.deepcopy(models[0])
        self._rates = _LaneRates(self._net, models)
        speed_linear(self._net)
        named = [dict(model.named_parameters()) for model in models]
        self.parameters = {name: _joined([parameters[name] for parameters in named]) for name in named[0]}
        self._stack = stack_of(self._net, self.parameters, self._rates.by_module)
        held = [dict(model.named_buffers()) for model in models]
        self._buffers = {name: torch.stack([buffers[name] for buffers in held]) for name, buffer in held[0].items()
                         if not all(torch.equal(buffer, buffers[name]) for buffers in held[1:])}
        self._call: Any = torch.vmap(self._one, in_dims=(0, 0, 0, 0, 0, 0, None), randomness="error")

    def step(self, seeds: Tensor, x: Tensor, y: Tensor, loss: Loss, name: str = "") -> tuple[Tensor, Tensor]:
        """Run all networks in training mode, each on its batch with the masks of its seed, and leave their gradients behind.

        Args:
            seeds: (R,) int64, as `dropkit.core.streams.keyed_pass` takes them.
            x: (R, B, ...), a batch a lane.
            y: (R, B, ...), its targets.
            loss: of outputs and targets.
            name: the loss's, by which some have a shorter way.

        Returns:
            Losses, (R,), and outputs, (R, B, ...). ``parameters`` have the gradients as ``grad``, each lane of its own loss.
        """
        together = stacked_loss(name)
        if self._stack is not None and together is not None:
            with keyed_pass(seeds):
                return self._stack.step(x, y, together)
        self._net.train()
        with warnings.catch_warnings():
            # Operations that vmap has no rule for run lane by lane; whether that is too slow is measured, not guessed.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            losses, out = self._call(self.parameters, self._buffers, self._rates.table, seeds, x, y, loss)
        for parameter in self.parameters.values():
            parameter.grad = None
        losses.sum().backward()  # lanes share nothing: each gets the gradient of its own loss
        return losses.detach(), out.detach()

    def release(self, lane: int) -> None:
        """Let a network keep the weights that it has now, whatever becomes of its lane."""
        for parameter in self.models[lane].parameters():
            parameter.data = parameter.data.clone()

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], rates: list[Tensor], seed: Tensor, x: Tensor,
             y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        def net(batch: Tensor) -> Any:
            return functional_call(self._net, {**parameters, **buffers}, (batch,))

        self._rates.set(rates)
        with keyed_pass(seed):
            out = outputs_of(net, x, y)
        return loss(out, y), out


class _LaneRates:
    """The rates of the sites at which lanes differ, put into the one network that computes them all."""

    def __init__(self, net: nn.Module, models: Sequence[nn.Module]) -> None:
        by_lane = [[site.p for site in sites(model)] for model in models]
        if len({len(rates) for rates in by_lane}) > 1:
            raise Unlike("the arms' networks differ in where they drop")
        columns = list(zip(*by_lane, strict=True))
        found = list(zip(sites(net), columns, strict=True))
        self.by_module = {site.module: column for site, column in found}
        unlike = [(site, column) for site, column in found if len(set(column)) > 1]
        self.table = [torch.tensor(column, dtype=torch.float64) for _, column in unlike]
        self._setters = [_setter(site) for site, _ in unlike]

    def set(self, rates: list[Tensor]) -> None:
        """Let the sites have these rates from now on; under ``torch.vmap`` those of all lanes."""
        for put, rate in zip(self._setters, rates, strict=True):
            put(rate)


def _setter(site: Site) -> Callable[[Tensor], None]:
    routing = routing_of(site.module)
    holder: RateSite | RoutedCall | None = None
    if site.call is not None and routing is not None and routing.calls is not None:
        holder = routing.calls[site.call]
    elif isinstance(site.module, RateSite) and type(site.module).current_rate is RateSite.current_rate:
        holder = site.module
    if holder is not None:
        return lambda rate: vars(holder).__setitem__("current_rate", lambda: rate)
    attribute = rate_attribute(site.module)
    if attribute is None or isinstance(site.module, RateSite):
        raise Unlike(f"the rate of {site.name or 'the model'} cannot differ from run to run of one batch")
    return lambda rate: vars(site.module).__setitem__(attribute, rate)


def _check_alike(models: Sequence[nn.Module]) -> None:
    if any(is_lazy(tensor) for model in models for tensor in (*model.parameters(), *model.buffers())):
        raise Unlike("a lazy layer has its weights drawn in the first step")
    shapes = {tuple((name, tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for name, tensor in
                    (*model.named_parameters(), *model.named_buffers())) for model in models}
    kinds = {tuple((name, type(module).__qualname__) for name, module in walk(model)) for model in models}
    if len(shapes) > 1 or len(kinds) > 1:
        raise Unlike("the arms' networks differ in their layers")


def _joined(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    stacked = torch.stack([parameter.detach() for parameter in parameters])
    for parameter, view in zip(parameters, stacked, strict=True):
        parameter.data = view
    return nn.Parameter(stacked, parameters[0].requires_grad)
