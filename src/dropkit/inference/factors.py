"""The mean of each module's outputs in training, as a multiple of its output in evaluation."""

from __future__ import annotations

import math
import statistics
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from dropkit.catalog import CATALOG
from dropkit.surgery.calls import call_model, copy_inputs
from dropkit.surgery.functional import Call
from dropkit.surgery.modules import walk
from dropkit.surgery.sites import sites
from dropkit.surgery.watch import Frame, Watch

_ROUNDING = 1e-5  # of a factor in single precision
LOOKS = (16, 40)  # passes after which an interval may be narrow enough
# Modules of torch that compute the same in both modes: most of a model's cost, and nothing to be found.
_MODELESS = frozenset(("activation", "conv", "flatten", "linear", "normalization", "padding", "pixelshuffle", "pooling",
                       "sparse"))


@dataclass(frozen=True)
class Factor:
    """By how much the mean of training's outputs differs from evaluation's output.

    Args:
        name: the module's path, empty for the model itself.
        factor: training's mean, projected on evaluation: 1 where they match, q = 1 - p where a scale was forgotten.
        low: lower end of its confidence interval.
        high: upper end.
        judged: whether it is to be 1: not where a variant does not keep the mean by its definition, or inside which values
            pass through what is not linear.
    """

    name: str
    factor: float
    low: float
    high: float
    judged: bool

    @property
    def matches(self) -> bool:
        """Whether 1 lies in the interval."""
        return self.low - _ROUNDING <= 1 <= self.high + _ROUNDING


_Taken = tuple[tuple[Any, ...], dict[str, Any]]
_KEEPS_MEAN: dict[type[nn.Module], bool] = {
    kind: row.claims.mean_preserving for row in CATALOG for kind in (row.module, row.torch_twin) if kind is not None}

_FUNCTIONS_KEEP_MEAN = {row.name: row.claims.mean_preserving for row in CATALOG}


def module_factors(model: nn.Module, inputs: Any, passes: int, *, level: float,
                   near: float = 0.0) -> tuple[list[str], list[Factor]]:
    """The factor of each module without children that acts in training, called by itself on what it gets in evaluation.

    Args:
        model: any module, in evaluation. Its parts are left in evaluation; what their forwards change stays changed.
        inputs: as in `dropkit.surgery.calls.call_model`.
        passes: in training, at least 2.
        level: of the intervals.
        near: a module's passes end early, after 16 or 40, once its interval lies within this distance of 1. Default: 0, never.

    Returns:
        The paths of the modules whose evaluation differs from call to call, and the factors.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
        >>> with torch.no_grad():
        ...     varying, factors = module_factors(model, torch.ones(4, 2), 200, level=0.999)
        >>> varying, [(found.name, found.matches) for found in factors]
        ([], [('1', True)])
    """
    taken = _taken(model, inputs)
    varying, factors = [], []
    for name, module in walk(model):
        if module not in taken or list(module.children()) or _has_no_mode(module):
            continue
        if not torch.equal(_called(module, taken[module]), _called(module, taken[module])):
            varying.append(name)
        found = factor_of(name, module, taken[module], passes, level=level, near=near)
        if found is not None:
            factors.append(found)
    return varying, factors


def factor_of(name: str, module: nn.Module, taken: _Taken, passes: int, *, level: float, near: float = 0.0,
              judged: bool | None = None) -> Factor | None:
    """The factor of a module; None where training does nothing to it, or there is nothing to compare with.

    Args:
        name: the module's path.
        module: any module; it is left in evaluation.
        taken: the arguments and keyword arguments that it is called with.
        passes: as in `module_factors`.
        level: of the interval.
        near: as in `module_factors`.
        judged: as in `Factor`. Default: by the module's kind, and by the functions that it calls in training.
    """
    module.eval()
    expected = _called(module, taken)
    if isinstance(module, _BatchNorm) or not 0 < float(expected.square().sum()) < math.inf:
        return None
    for inner in module.modules():
        inner.train(not isinstance(inner, _BatchNorm))
    if not _may_drop(module) and all(torch.equal(_called(module, taken), expected) for _ in range(8)):
        return None  # it knows no mode
    kept = [_is_to_keep_mean(module)]

    def notice(frame: Frame, key: str, call: Call, p: float) -> bool:
        kept.append(keeps_mean(call.rule.kind))
        return False

    with Watch(module, notice) if judged is None else nullcontext():
        each = _multiples(module, taken, expected, passes, level, near)
    module.eval()
    if not each or not all(map(math.isfinite, each)):
        return None
    low, high = interval(each, level)
    return Factor(name, (low + high) / 2, low, high, all(kept) if judged is None else judged)


def _multiples(module: nn.Module, taken: _Taken, expected: Tensor, passes: int, level: float, near: float) -> list[float]:
    """Each pass's output as a multiple of the expected one; none where the number of tokens or edges depends on chance."""
    norm = float(expected.square().sum())
    each: list[float] = []
    while len(each) < passes:
        found = _called(module, taken)
        if found.shape != expected.shape:
            return []
        each.append(float(found @ expected) / norm)
        if near and len(each) in LOOKS and all(abs(end - 1) < near for end in interval(each, level)):
            break
    return each


def keeps_mean(kind: str) -> bool:
    """Whether what a function returns in training is to have the mean of what it returns in evaluation.

    Args:
        kind: a catalog name.

    Example:
        >>> keeps_mean("dropout"), keeps_mean("alpha_dropout")
        (True, False)
    """
    return _FUNCTIONS_KEEP_MEAN.get(kind, True)


def positional(inputs: Any) -> _Taken:
    """Inputs as arguments and keyword arguments.

    Args:
        inputs: as in `dropkit.surgery.calls.call_model`.

    Example:
        >>> positional({"x": 1}), positional(2)
        (((), {'x': 1}), ((2,), {}))
    """
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def flat(output: Any) -> Tensor:
    """All floating-point numbers of an output, in double precision.

    Args:
        output: what a module returned.

    Example:
        >>> flat((torch.ones(2), 7))
        tensor([1., 1.], dtype=torch.float64)
    """
    found = [leaf.detach().double().flatten() for leaf in pytree.tree_leaves(output)
             if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def interval(each: list[float], level: float) -> tuple[float, float]:
    """A confidence interval of a mean, by the normal approximation.

    Args:
        each: values, two at least.
        level: of the interval.

    Example:
        >>> interval([1.0, 1.0], 0.999)
        (1.0, 1.0)
    """
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    center, width = statistics.fmean(each), z * float(torch.tensor(each, dtype=torch.float64).std()) / math.sqrt(len(each))
    return center - width, center + width


def _taken(model: nn.Module, inputs: Any) -> dict[nn.Module, _Taken]:
    """What each module is called with first, but for scripted ones, which take no hooks."""
    found: dict[nn.Module, _Taken] = {}

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.setdefault(module, copy_inputs((args, kwargs)))

    handles = [module.register_forward_pre_hook(remember, with_kwargs=True) for _, module in walk(model)
               if not (list(module.children()) or _has_no_mode(module) or isinstance(module, torch.jit.ScriptModule))]
    try:
        call_model(model, copy_inputs(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _called(module: nn.Module, taken: _Taken) -> Tensor:
    args, kwargs = copy_inputs(taken)
    return flat(module(*args, **kwargs))


def _has_no_mode(module: nn.Module) -> bool:
    """Whether a module is one of torch's that compute the same in both modes, and nobody has hooked into it."""
    package, _, name = type(module).__module__.rpartition(".")
    return (package == "torch.nn.modules" and name in _MODELESS and not isinstance(module, nn.RReLU)
            and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)))


def _may_drop(module: nn.Module) -> bool:
    return any(site.p != 0 for site in sites(module))


def _is_to_keep_mean(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        return False
    return next((_KEEPS_MEAN[base] for base in type(module).__mro__ if base in _KEEPS_MEAN), True)
