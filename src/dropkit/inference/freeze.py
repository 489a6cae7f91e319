"""Checks before a model is frozen: evaluation is deterministic, and stands for the mean of training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from dropkit.catalog import CATALOG
from dropkit.core.errors import InputError, phrase
from dropkit.core.seeds import check_integer
from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.modules import unwrap, walk
from dropkit.surgery.sites import sites

_ROUNDING = 1e-5  # of a factor in single precision


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


@dataclass(frozen=True)
class FreezeReport:
    """What `freeze_check` found.

    Args:
        deterministic: whether evaluation gave the same outputs at each call.
        varying: paths of the modules whose evaluation differs from call to call.
        factors: of the modules that act in training.
        model: of the whole model, where layers that are not linear move it away from 1 although all is well.
        level: of the intervals.
    """

    deterministic: bool
    varying: tuple[str, ...]
    factors: tuple[Factor, ...]
    model: Factor
    level: float

    @property
    def ok(self) -> bool:
        """Whether evaluation is deterministic and every factor that is judged matches."""
        return self.deterministic and all(found.matches for found in self.factors if found.judged)

    def __str__(self) -> str:
        lines = ["evaluation is deterministic" if self.deterministic else
                 f"evaluation varies from call to call: {', '.join(self.varying) or 'in a forward'}"]
        for found in (*self.factors, self.model):
            name = (repr(found.name) if found.name else "the model") if found is not self.model else "the whole model"
            verdict = "" if not found.judged else ": matches" if found.matches else ": DIFFERS"
            lines.append(f"{name}: training's mean is {found.factor:.4g} times evaluation "
                         f"[{found.low:.4g}, {found.high:.4g}]{verdict}")
        return "\n".join(lines)


def freeze_check(model: nn.Module, inputs: Any, passes: int = 200, *, seed: int = 0, level: float = 0.999) -> FreezeReport:
    """Check that a model can be frozen: evaluation is deterministic, and what its dropout does there is training's mean.

    The model runs twice in evaluation, at different random states. Each module without children is then called by itself, on
    what it gets in evaluation: ``passes`` times in training and once in evaluation. Of training's outputs y_t and
    evaluation's output e the factor is the mean over t of ``y_t . e / e . e``, and its interval comes from their spread. A
    dropout that forgets to scale has the factor 1 - p, one that scales twice 1 / (1 - p).

    Batch normalisation stays in evaluation mode. Functional calls in the forward of modules with children show in the factor
    of the whole model only.

    Args:
        model: any module. It stays as it is, and so do the random states.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        passes: in training, at least 2. Default: 200.
        seed: of the masks.
        level: of the intervals, of each alone, by the normal approximation. Default: 0.999.

    Returns:
        A report, whose text says all.

    Raises:
        InputError: when ``passes`` or ``level`` is out of range.

    Example:
        >>> class Forgets(nn.Module):
        ...     def forward(self, x):
        ...         return x * (torch.rand_like(x) > 0.5) if self.training else x
        >>> report = freeze_check(nn.Sequential(Forgets(), nn.Dropout(0.5)), torch.ones(8, 100))
        >>> report.ok, [round(found.factor, 1) for found in report.factors]
        (False, [0.5, 1.0])
    """
    if check_integer(passes, "passes", 32) < 2:
        raise InputError("at least two passes tell a spread", got=passes, fix="Pass passes=200")
    if not 0 < level < 1:
        raise InputError("a level lies in (0, 1)", got=level, fix="Pass 0.999")
    walk(model)
    inner: nn.Module = unwrap(model)
    z = float(torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)))
    with undisturbed(inner), torch.no_grad():
        torch.manual_seed(seed)
        inner.eval()
        taken = _taken(inner, inputs)
        first = _flat(call_model(inner, copy_inputs(inputs)))
        second = _flat(call_model(inner, copy_inputs(inputs)))
        varying, factors = [], []
        for name, module in walk(inner):
            if module not in taken or list(module.children()):
                continue
            if not torch.equal(_called(module, taken[module]), _called(module, taken[module])):
                varying.append(name)
            found = _factor(name, module, taken[module], passes, z)
            if found is not None:
                factors.append(found)
        whole = _factor("", inner, _positional(inputs), passes, z, judged=False)
    same = torch.equal(first, second)
    return FreezeReport(same and not varying, tuple(varying), tuple(factors),
                        whole or Factor("", 1.0, 1.0, 1.0, False), level)


@contextmanager
def quantization_calibration(model: nn.Module, inputs: Any = None) -> Iterator[None]:
    """Guard the forwards that observers of a quantisation watch: they may not see dropout at work.

    Masked values make ranges wider, by 1 / (1 - p), and histograms wrong. No forward of the model runs inside the ``with``
    while a module drops, also when its mode is changed there.

    Args:
        model: any module.
        inputs: what the model is called with; functional calls that drop in evaluation are found with them.

    Raises:
        InputError: on entry, or at a forward inside, while a site is active; it names them.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> with quantization_calibration(model.eval()):
        ...     model(torch.ones(1, 2)).shape
        torch.Size([1, 2])
    """
    _refuse_active(model, inputs)
    inner = unwrap(model)
    handle = inner.register_forward_pre_hook(lambda module, args: _refuse_active(module))
    try:
        yield
    finally:
        handle.remove()


def _refuse_active(model: nn.Module, inputs: Any = None) -> None:
    active = [site.name or "(model)" for site in sites(model, inputs) if site.active]
    if active:
        shown = ", ".join(map(repr, active[:5])) + (f" and {len(active) - 5} more" if len(active) > 5 else "")
        raise InputError("a model is calibrated for quantisation while no dropout acts", got=phrase(f"active sites {shown}"),
                         fix="Call model.eval() first; calls that drop in evaluation need training=self.training")


_Taken = tuple[tuple[Any, ...], dict[str, Any]]


def _taken(model: nn.Module, inputs: Any) -> dict[nn.Module, _Taken]:
    """What each module is called with first."""
    found: dict[nn.Module, _Taken] = {}

    def remember(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.setdefault(module, copy_inputs((args, kwargs)))

    handles = [module.register_forward_pre_hook(remember, with_kwargs=True) for _, module in walk(model)]
    try:
        call_model(model, copy_inputs(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _positional(inputs: Any) -> _Taken:
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def _called(module: nn.Module, taken: _Taken) -> Tensor:
    args, kwargs = copy_inputs(taken)
    return _flat(module(*args, **kwargs))


def _flat(output: Any) -> Tensor:
    """All floating-point numbers of an output, in double precision."""
    found = [leaf.detach().double().flatten() for leaf in pytree.tree_leaves(output)
             if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.float64)


def _factor(name: str, module: nn.Module, taken: _Taken, passes: int, z: float, judged: bool | None = None) -> Factor | None:
    """The factor of a module; None where training does nothing to it, or there is nothing to compare with."""
    module.eval()
    expected = _called(module, taken)
    norm = float(expected.square().sum())
    if isinstance(module, _BatchNorm) or not 0 < norm < math.inf:
        return None
    for inner in module.modules():
        inner.train(not isinstance(inner, _BatchNorm))
    if not _may_drop(module) and all(torch.equal(_called(module, taken), expected) for _ in range(8)):
        return None  # it knows no mode
    outputs = (_called(module, taken) for _ in range(passes))
    # Where the number of tokens or edges depends on chance there is nothing to compare element by element.
    each = [float((found * expected).sum()) / norm if found.shape == expected.shape else math.nan for found in outputs]
    module.eval()
    values = torch.tensor(each, dtype=torch.float64)
    if not bool(torch.isfinite(values).all()):
        return None
    center, width = float(values.mean()), z * float(values.std()) / math.sqrt(passes)
    return Factor(name, center, center - width, center + width, _is_judged(module) if judged is None else judged)


def _may_drop(module: nn.Module) -> bool:
    return any(site.p != 0 for site in sites(module))


def _is_judged(module: nn.Module) -> bool:
    if isinstance(module, nn.RNNBase):
        return False
    return _KEEPS_MEAN.get(type(module), True)


_KEEPS_MEAN: dict[type[nn.Module], bool] = {
    kind: row.claims.mean_preserving for row in CATALOG for kind in (row.module, row.torch_twin) if kind is not None}
