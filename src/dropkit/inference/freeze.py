"""Checks before a model is frozen: evaluation is deterministic, and stands for the mean of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.levels import check_level
from dropkit.core.seeds import check_integer, check_seed
from dropkit.inference.accepted import accepted, check_enabled
from dropkit.inference.factors import Factor, factor_of, flat, module_factors, positional
from dropkit.inference.flows import flow_factors
from dropkit.surgery.calls import call_model, copy_inputs, refuse_meta, undisturbed
from dropkit.surgery.modules import unwrap, walk
from dropkit.surgery.scripted import drawing_scripts, is_active
from dropkit.surgery.sites import sites


@dataclass(frozen=True)
class FreezeReport:
    """What `freeze_check` found.

    Args:
        deterministic: whether evaluation gave the same outputs at each call.
        varying: paths of the modules whose evaluation differs from call to call.
        factors: of the modules that act in training.
        model: of the whole model, where layers that are not linear move it away from 1 although all is well.
        level: of the intervals.
        flows: of what layers are given, where the code between them acts in training, by the layers' paths.
    """

    deterministic: bool
    varying: tuple[str, ...]
    factors: tuple[Factor, ...]
    model: Factor
    level: float
    flows: tuple[Factor, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether evaluation is deterministic and every factor that is judged matches."""
        return self.deterministic and all(found.matches for found in (*self.factors, *self.flows) if found.judged)

    def __str__(self) -> str:
        lines = ["evaluation is deterministic" if self.deterministic else
                 f"evaluation varies from call to call: {', '.join(self.varying) or 'in a forward'}"]
        named = [*((repr(found.name) if found.name else "the model", found) for found in self.factors),
                 *((f"what {found.name!r} is given", found) for found in self.flows), ("the whole model", self.model)]
        for name, found in named:
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

    The code between layers is measured by what the next layer is given, while all layers return what they return in evaluation:
    where that depends linearly on what they return. Batch normalisation stays in evaluation mode. What else the forward of
    modules with children does shows in the factor of the whole model only.

    Args:
        model: any module. It stays as it is, and so do the random states.
        inputs: what the model is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments.
        passes: in training, at least 2. Default: 200.
        seed: of the masks.
        level: of the intervals, of each alone, by the normal approximation. Default: 0.999.

    Returns:
        A report, whose text says all.

    Raises:
        InputError: for a value out of range, inputs that the model does not take, a model inside ``dk.disabled``, where nothing
            acts, a part that is compiled by ``torch.jit``, which hides what its modules are called with, and something on the
            meta device, which has no values.

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
    level, number = check_level(level), check_seed(seed)
    _refuse_scripted(model)
    refuse_meta(model, inputs)
    check_enabled(model, "freeze_check")
    inner: nn.Module = unwrap(model)
    with accepted(model, inputs), undisturbed(inner), torch.no_grad():
        torch.manual_seed(number)
        inner.eval()
        first = flat(call_model(inner, copy_inputs(inputs)))
        second = flat(call_model(inner, copy_inputs(inputs)))
        varying, factors = module_factors(inner, inputs, passes, level=level)
        flows = flow_factors(inner, inputs, passes, level=level)
        whole = factor_of("", inner, positional(inputs), passes, level=level, judged=False)
    same = torch.equal(first, second)
    return FreezeReport(same and not varying, tuple(varying), tuple(factors),
                        whole or Factor("", 1.0, 1.0, 1.0, False), level, tuple(flows))


def _refuse_scripted(model: nn.Module) -> None:
    for name, module in walk(model):
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError("a model that is checked is written in Python, so that each module can be called by itself",
                             got=phrase(f"a scripted or traced module at {name!r}"),
                             fix="Check the model as it was before torch.jit")


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
    names = [site.name for site in sites(model, inputs) if site.active]
    active = [name or "(model)" for name in [*names, *(name for name, module in drawing_scripts(model) if is_active(module))]]
    if active:
        shown = ", ".join(map(repr, active[:5])) + (f" and {len(active) - 5} more" if len(active) > 5 else "")
        raise InputError("a model is calibrated for quantisation while no dropout acts", got=phrase(f"active sites {shown}"),
                         fix="Call model.eval() first; calls that drop in evaluation need training=self.training")
