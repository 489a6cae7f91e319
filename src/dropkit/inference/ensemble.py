"""Dropout as an ensemble: the sub-networks of a model one by one, and the ways to average them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.seeds import check_integer, check_seed
from dropkit.core.streams import keyed
from dropkit.inference.twin import copied
from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.modules import unwrap, walk
from dropkit.surgery.sites import sites
from dropkit.surgery.swap import swap
from dropkit.variants.channel import Dropout1d, Dropout2d, Dropout3d
from dropkit.variants.drop_path import DropPath
from dropkit.variants.dropout import Dropout


@dataclass(frozen=True)
class Ensemble:
    """Four predictions of one model, as probabilities.

    Args:
        arithmetic: the mean of the sub-networks' probabilities, each weighted by how likely dropout is to choose it.
        geometric: their weighted geometric mean, normalised.
        weight_scaling: the model in evaluation.
        monte_carlo: the mean of passes with masks drawn at random, for each example anew.
        units: how many units can be dropped.
        networks: how many sub-networks were averaged for ``arithmetic`` and ``geometric``.
        exact: whether these are all there are.
    """

    arithmetic: Tensor
    geometric: Tensor
    weight_scaling: Tensor
    monte_carlo: Tensor
    units: int
    networks: int
    exact: bool

    @property
    def differences(self) -> dict[tuple[str, str], float]:
        """The largest absolute difference of each two predictions."""
        names = ("arithmetic", "geometric", "weight_scaling", "monte_carlo")
        return {(one, other): float((getattr(self, one) - getattr(self, other)).abs().max())
                for one, other in itertools.combinations(names, 2)}


def ensemble(model: nn.Module, inputs: Any, max_units: int = 12, samples: int = 1000, *, output: str = "softmax",
             seed: int = 0) -> Ensemble:
    """Compare evaluation with what it stands for: an average over the sub-networks that dropout chooses from.

    A model with n units that can be dropped holds 2^n sub-networks. Up to ``max_units`` all are run, each on all inputs, and
    averaged by their probability ``prod p^(1 - m) q^m`` over units, m their masks; with more units as many as ``samples``
    are drawn. In a single softmax or logistic layer weight scaling is the normalised geometric mean; deeper it is near it.

    Args:
        model: any module with `Dropout`, `Dropout1d`, `Dropout2d`, `Dropout3d` or `DropPath`, of dropkit or torch, each called
            once in a forward, that returns logits. It stays as it is.
        inputs: what the model is called with, the batch in the first dimension of what sites get: a tensor, a tuple or list
            of arguments, or a dict of keyword arguments.
        max_units: up to how many units all sub-networks are run, at most 20. Default: 12, for 4,096 sub-networks.
        samples: how many passes, and sub-networks where not all are run, are drawn. Default: 1000.
        output: what turns logits into probabilities: ``"softmax"`` over the last dimension, or ``"sigmoid"`` for each alone.
        seed: of what is drawn.

    Returns:
        The four predictions, and ``differences``.

    Raises:
        InputError: for dropout of other kinds or in functional calls, a site that is called twice, a model without dropout,
            an output that is no tensor of logits, of two classes at least for a softmax, a model that cannot be copied, and
            numbers out of range.

    Example:
        >>> from dropkit.variants.dropout import Dropout
        >>> _ = torch.manual_seed(0)
        >>> found = ensemble(nn.Sequential(Dropout(0.5), nn.Linear(4, 3)), torch.randn(2, 4), samples=10)
        >>> found.networks, found.differences["geometric", "weight_scaling"] < 1e-6
        (16, True)

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to prevent neural networks from
        overfitting", JMLR 2014. Baldi, Sadowski: "Understanding dropout", NeurIPS 2013.
    """
    if output not in ("softmax", "sigmoid"):
        raise InputError('output is "softmax" or "sigmoid"', got=output, fix="Pass how logits become probabilities")
    if check_integer(max_units, "max_units", 32) > 20:
        raise InputError("max_units is at most 20", got=max_units, fix="Draw sub-networks at random beyond, with samples=")
    if check_integer(samples, "samples", 32) < 1:
        raise InputError("at least one pass is drawn", got=samples, fix="Pass samples=1000")
    number = check_seed(seed)
    if inputs is None:
        raise InputError("an ensemble is of predictions on inputs", got=inputs, fix="Pass what the model is called with")
    found = _sites(model, inputs)
    inner: nn.Module = unwrap(model)
    with undisturbed(inner), torch.no_grad():
        fixed, held = _with_fixed_masks(swap(copied(inner)).eval(), found)
        plain = swap(copied(inner)).eval()
        scaled = _logits(plain, inputs)
        _check_logits(scaled, output)
        _logits(fixed, inputs)  # tells how many units each site has
        units = sum(mask.units for mask in held)
        exact = units <= max_units
        networks = _every(held) if exact else _some(held, samples, number)
        arithmetic, geometric = _averages(fixed, inputs, networks, output)
        drawn = _monte_carlo(plain, found, inputs, samples, number, output)
    return Ensemble(arithmetic, geometric, _probabilities(scaled.double(), output), drawn, units,
                    2**units if exact else samples, exact)


class _Fixed(nn.Module):
    """A site whose mask is set from outside, one for the whole batch."""

    def __init__(self, site: Any) -> None:
        super().__init__()
        self.site, self.calls, self.units = site, 0, 0
        self.shape: tuple[int, ...] = ()
        self.factors: Tensor | None = None  # while the units are counted

    @property
    def scale(self) -> float:
        """What a kept unit is multiplied by."""
        q = 1.0 - float(self.site.p)
        return 1.0 if getattr(self.site, "scaling", "inverted") == "classic" or q == 0 else 1.0 / q

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        if self.factors is None:
            self.shape = _SHAPES[type(self.site)](self.site, input)
            self.units = int(torch.Size(self.shape).numel())
            return input
        return input * self.factors.to(input.device, input.dtype).view(self.shape)


def _element(site: Any, x: Tensor) -> tuple[int, ...]:
    shared = {dim % x.dim() for dim in site.share_dims} | {0}
    return tuple(1 if dim in shared else size for dim, size in enumerate(x.shape))


def _channel(site: Any, x: Tensor) -> tuple[int, ...]:
    return (1, x.shape[1], *[1] * (x.dim() - 2))


def _path(site: Any, x: Tensor) -> tuple[int, ...]:
    return (1,) * x.dim()


_SHAPES: dict[type[nn.Module], Callable[[Any, Tensor], tuple[int, ...]]] = {
    Dropout: _element, **dict.fromkeys((Dropout1d, Dropout2d, Dropout3d), _channel), DropPath: _path}
_TWINS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def _sites(model: nn.Module, inputs: Any) -> list[str]:
    """The names of the sites that act, which are all of kinds whose sub-networks are known."""
    found = [site for site in sites(model, inputs) if site.p != 0]
    for site in found:
        if site.call is not None or type(site.module) not in {*_SHAPES, *_TWINS}:
            raise InputError("the dropout of an ensemble is of single units, channels or paths, in modules",
                             got=phrase(f"{site.kind} at {site.name!r}"), fix="Use Monte-Carlo passes for this model")
    if not found:
        raise InputError("an ensemble has dropout with a rate above 0", got=phrase(type(model).__name__),
                         fix="dropkit.sites(model, inputs) lists what drops")
    return [site.name for site in found]


def _with_fixed_masks(model: nn.Module, names: list[str]) -> tuple[nn.Module, list[_Fixed]]:
    known = dict(walk(model))
    masks = {known[name]: _Fixed(known[name]) for name in names}
    for module in [one for one in model.modules() if one not in masks]:
        for name, child in module._modules.items():
            if child in masks:
                module._modules[name] = masks[child]
    return masks.get(model, model), list(masks.values())


def _logits(model: nn.Module, inputs: Any) -> Tensor:
    for module in model.modules():
        if isinstance(module, _Fixed):
            module.calls = 0
    found = call_model(model, copy_inputs(inputs))
    if not isinstance(found, Tensor):
        raise InputError("a model of an ensemble returns logits", got=phrase(f"a {type(found).__name__}"),
                         fix="Wrap it in a module that returns one tensor")
    if any(isinstance(module, _Fixed) and module.calls > 1 for module in model.modules()):
        raise InputError("each site of an ensemble is called once", got=phrase("a dropout that is used twice in a forward"),
                         fix="Give each place a module of its own")
    return found


def _check_logits(found: Tensor, output: str) -> None:
    if not found.is_floating_point():
        raise InputError("logits are floating-point numbers", got=phrase(f"a tensor of {found.dtype}"),
                         fix="Return what comes before the argmax, or convert it")
    if output == "softmax" and (found.dim() < 2 or found.shape[-1] < 2):
        raise InputError("a softmax is over the logits of two classes at least, in the last dimension behind the batch",
                         got=phrase(f"an output of shape {tuple(found.shape)}"),
                         fix='Pass output="sigmoid" where each logit stands alone')


def _probabilities(logits: Tensor, output: str) -> Tensor:
    return torch.softmax(logits, -1) if output == "softmax" else torch.sigmoid(logits)


def _set(held: list[_Fixed], bits: list[Tensor]) -> None:
    for mask, kept in zip(held, bits, strict=True):
        mask.factors = kept.double() * mask.scale


def _every(held: list[_Fixed]) -> Iterator[float]:
    """Set each combination of masks, and tell its probability."""
    counts = [mask.units for mask in held]
    rates = torch.cat([torch.full((mask.units,), float(mask.site.p), dtype=torch.float64) for mask in held])
    for bits in itertools.product((0.0, 1.0), repeat=sum(counts)):
        kept = torch.tensor(bits, dtype=torch.float64)
        _set(held, list(torch.split(kept, counts)))
        yield float(torch.where(kept == 1, 1 - rates, rates).prod())


def _some(held: list[_Fixed], samples: int, seed: int) -> Iterator[float]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        _set(held, [torch.rand(mask.units, generator=generator, dtype=torch.float64) >= float(mask.site.p) for mask in held])
        yield 1.0 / samples


def _averages(model: nn.Module, inputs: Any, networks: Iterator[float], output: str) -> tuple[Tensor, Tensor]:
    """Arithmetic and normalised geometric mean; the latter has the mean of the logits for logits."""
    arithmetic: Any = 0.0
    logits: Any = 0.0
    for weight in networks:
        found = _logits(model, inputs).double()
        if weight:  # what is never chosen may be infinite
            arithmetic, logits = arithmetic + weight * _probabilities(found, output), logits + weight * found
    return arithmetic, _probabilities(logits, output)


def _monte_carlo(model: nn.Module, names: list[str], inputs: Any, samples: int, seed: int, output: str) -> Tensor:
    known = dict(walk(model))
    for name in names:
        known[name].train()
    total: Any = 0.0
    for index in range(samples):
        with keyed(seed, pass_index=index):
            total = total + _probabilities(_logits(model, inputs).double(), output)
    mean: Tensor = total / samples
    return mean
