"""Where dropout usually goes: placements for `dropkit.insert`, found by looking at a model without changing it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.core.rates import check_rate
from dropkit.surgery.insert import Placement, check_dropout
from dropkit.surgery.modules import rate_attribute, walk
from dropkit.surgery.residual import HOMOGENEOUS, Branch, residual_branches
from dropkit.surgery.targets import check_model
from dropkit.surgery.trace import Trace, tensors, trace
from dropkit.variants.alpha import AlphaDropout
from dropkit.variants.channel import Dropout1d, Dropout2d, Dropout3d
from dropkit.variants.drop_path import DropPath, depth_rates
from dropkit.variants.dropout import Dropout

Drop = float | nn.Module | Callable[[], nn.Module]
"""What to place: a rate, a dropout to copy, or something that makes one."""

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
                nn.Hardtanh, nn.Tanh, nn.Softplus, nn.Softsign, nn.GLU)
_FUNCTIONS = HOMOGENEOUS | {"gelu", "silu", "silu_", "tanh", "elu", "mish", "hardswish"}
_CONVOLUTIONS: dict[type[nn.Module], Callable[[float], nn.Module]] = {
    nn.Conv1d: Dropout1d, nn.ConvTranspose1d: Dropout1d, nn.Conv2d: Dropout2d, nn.ConvTranspose2d: Dropout2d,
    nn.Conv3d: Dropout3d, nn.ConvTranspose3d: Dropout3d}
_WEIGHTED: tuple[type[nn.Module], ...] = (nn.Linear, *_CONVOLUTIONS)


def after_activations(model: nn.Module, dropout: Drop = 0.5, *, inputs: Any = None) -> Placement:
    """After each activation but that of the output layer.

    Activations are modules such as ``nn.ReLU`` and ``nn.GELU``; softmax and sigmoid, which are gates and outputs more often, do
    not count. With inputs, a ``relu`` that is called as a function counts too: dropping before it is the same as after it, so
    the place is after the module it is applied to. Other activations called as functions are named in the notes.

    Args:
        model: any module; not changed.
        dropout: a rate, a dropout to copy, or something that makes one. After SELU a rate makes ``AlphaDropout``. Default: 0.5.
        inputs: a batch (a tensor, a tuple of arguments, or a dict of named ones), by which the output layer is the last one
            that is called; without it, the last one that the model defines.

    Raises:
        InputError: for a model without such activations.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.ReLU())
        >>> print(after_activations(model, 0.5))
        after 1: Dropout(p=0.5, inplace=False)
    """
    modules = _modules(model)
    watched = None if inputs is None else trace(model, inputs)
    order = list(modules) if watched is None else _first_calls(watched)
    hidden = order[: max((i for i, name in enumerate(order) if isinstance(modules[name], _WEIGHTED)), default=len(order))]
    found = {name: _made(dropout, AlphaDropout if isinstance(modules[name], nn.SELU) else Dropout)
             for name in hidden if _is_activation(modules[name])}
    notes: list[str] = []
    if watched is not None:
        for name in _under_functions(watched, notes):
            if name in hidden:
                found[name] = _made(dropout, Dropout)
    if not found:
        raise InputError("a model with activations to drop has them as modules between its layers", got=phrase(_name(model)),
                         fix="Pass inputs= to find relu called as a function, or insert after layers by name")
    return Placement(found, notes=dict.fromkeys(notes))


def before_classifier(model: nn.Module, dropout: Drop = 0.5, *, inputs: Any = None) -> Placement:
    """Before the last linear layer.

    Args:
        model: any module; not changed.
        dropout: a rate, a dropout to copy, or something that makes one. Default: 0.5.
        inputs: a batch, by which the last layer is the last one that is called; without it, the last one that the model
            defines.

    Raises:
        InputError: for a model without a linear layer.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> print(before_classifier(model, 0.2))
        before 3: Dropout(p=0.2, inplace=False)
    """
    modules = _modules(model)
    order = list(modules) if inputs is None else _last_calls(trace(model, inputs))
    linear = [name for name in order if isinstance(modules[name], nn.Linear) and not _never_called(name, modules)]
    if not linear:
        raise InputError("a classifier is an nn.Linear", got=phrase(f"{_name(model)} without one"),
                         fix='Insert by name: dk.insert(model, {"head": dropkit.nn.Dropout(0.5)}, where="before")')
    return Placement({linear[-1]: _made(dropout, Dropout)}, where="before")


def after_convolutions(model: nn.Module, dropout: Drop = 0.1, *, inputs: Any = None) -> Placement:
    """After each convolution but that of the output layer, whole channels at a time.

    Args:
        model: any module; not changed.
        dropout: a rate, which makes ``Dropout1d``, ``2d`` or ``3d`` as the convolution has dimensions; a dropout to copy, or
            something that makes one. Default: 0.1.
        inputs: a batch, by which the output layer is the last one that is called; without it, the last one that the model
            defines.

    Raises:
        InputError: for a model without such convolutions.

    Example:
        >>> print(after_convolutions(nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(8, 2)), 0.1))
        after 0: Dropout1d(p=0.1, inplace=False)
    """
    modules = _modules(model)
    order = list(modules) if inputs is None else _last_calls(trace(model, inputs))
    layers = [name for name in order if isinstance(modules[name], _WEIGHTED)]
    kinds = {name: kind for name in layers[:-1] for layer, kind in _CONVOLUTIONS.items() if isinstance(modules[name], layer)}
    if not kinds:
        raise InputError("a model with convolutions to drop has them before its output layer", got=phrase(_name(model)),
                         fix="Use after_activations for a model without convolutions")
    return Placement({name: _made(dropout, kind) for name, kind in kinds.items()})


def on_input(model: nn.Module, dropout: Drop = 0.2, *, inputs: Any = None) -> Placement:
    """On the model's first argument.

    Args:
        model: any module; not changed.
        dropout: a rate, a dropout to copy, or something that makes one. Default: 0.2.
        inputs: a batch, only looked at to tell whether it is floating-point data.

    Raises:
        InputError: for a model whose input is numbers of words, which cannot be scaled.

    Example:
        >>> print(on_input(nn.Linear(4, 2)))
        before the model: Dropout(p=0.2, inplace=False)
    """
    modules = _modules(model)
    layers = [(name, module) for name, module in modules.items() if module._parameters]
    first = next(tensors(inputs), None)
    words = first is not None and not (first.is_floating_point() or first.is_complex())
    if words or (first is None and layers and isinstance(layers[0][1], nn.Embedding)):
        name = next((name for name, module in layers if isinstance(module, nn.Embedding)), "embedding")
        raise InputError("an input that is dropped is floating-point data", got=phrase("numbers of words"),
                         fix=f"Insert after the embedding: dk.insert(model, {{{name!r}: dropkit.nn.Dropout(0.2)}}); or drop "
                             "words with dropkit.nn.WordDropout before it")
    return Placement({"": _made(dropout, Dropout)}, where="before")


def in_residual_branches(model: nn.Module, inputs: Any, dropout: Drop = 0.1, *, rule: str | None = "linspace") -> Placement:
    """At the end of each residual branch, just before the sum, at rates that follow the depth.

    The model runs once, in evaluation, and every sum of two tensors is looked at; see
    `dropkit.surgery.residual.residual_branches`. All branches of one block share a rate. What cannot be told, such as a branch
    that ends in a function and no module, is in the notes.

    ``DropPath`` decides for each example along the first dimension. Where attention puts time first (torch's default), it
    decides once for the batch.

    Args:
        model: any module; not changed.
        inputs: a batch: a tensor, a tuple of arguments, or a dict of named ones.
        dropout: the rate at the end of the network for ``DropPath``, a dropout to copy whose rate is that, or something that
            makes one. Default: 0.1.
        rule: how rates follow depth, as in ``dk.depth_rates``; None for the same rate everywhere. Default: ``"linspace"``.

    Raises:
        InputError: for a model in which no residual branch is found.

    Example:
        >>> import torch
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> print(in_residual_branches(model, torch.ones(2, 3, 8), 0.2, rule="paper"))
        after layers.0.dropout1: DropPath(p=0.1)
        after layers.0.dropout2: DropPath(p=0.1)
        after layers.1.dropout1: DropPath(p=0.2)
        after layers.1.dropout2: DropPath(p=0.2)
    """
    check_model(model)
    branches, notes = residual_branches(trace(model, inputs))
    if not branches:
        raise InputError("a model with residual branches adds to a tensor what was computed from it",
                         got=phrase("; ".join([_name(model), *notes])), fix="Insert after the branches' last modules by name")
    template = _made(dropout, DropPath)
    if isinstance(template, DropPath) and template.per == "sample" and any(map(_is_time_first, branches)):
        template.per = "batch"
        notes.append("attention has time first: a branch is dropped for the whole batch")
    found = {name: _rated(template, rate) for name, rate in _rates(branches, template, rule, notes).items()}
    return Placement(found, notes=dict.fromkeys(notes))


def _rates(branches: list[Branch], template: nn.Module, rule: str | None, notes: list[str]) -> dict[str, float]:
    top = float(getattr(template, rate_attribute(template) or "p", 0.0))
    blocks = list(dict.fromkeys((branch.block, branch.begins) for branch in branches))
    rates = dict(zip(blocks, depth_rates(top, len(blocks), rule) if rule else [top] * len(blocks), strict=True))
    if len(blocks) == 1 and top > rates[blocks[0]]:
        notes.append(f"to one block alone rule {rule!r} gives the rate {rates[blocks[0]]:g}; rule=None gives it {top:g}")
    found: dict[str, list[float]] = {}
    for branch in branches:
        found.setdefault(branch.module, []).append(rates[branch.block, branch.begins])
    for name, several in found.items():
        if len(set(several)) > 1:
            notes.append(f"{name!r} ends {len(several)} branches: it gets the mean of their rates")
    return {name: sum(several) / len(several) for name, several in found.items()}


def _rated(template: nn.Module, rate: float) -> nn.Module:
    made = copy.deepcopy(template)
    attribute = rate_attribute(made)
    if attribute is not None:
        setattr(made, attribute, rate)
    return made


def _is_time_first(branch: Branch) -> bool:
    around = branch.calls[-1].module if branch.calls else None
    return branch.width == 3 and around is not None and any(
        isinstance(module, nn.MultiheadAttention) and not module.batch_first for module in around.modules())


def _made(dropout: Any, kind: Callable[[float], nn.Module]) -> nn.Module:
    if isinstance(dropout, nn.Module):
        return copy.deepcopy(check_dropout(dropout))
    return check_dropout(dropout()) if callable(dropout) else kind(check_rate(dropout))


def _modules(model: nn.Module) -> dict[str, nn.Module]:
    check_model(model)
    return dict(walk(model))


def _is_activation(module: nn.Module) -> bool:
    return isinstance(module, _ACTIVATIONS) or type(module).__module__ == "transformers.activations"


def _never_called(name: str, modules: dict[str, nn.Module]) -> bool:
    return isinstance(modules.get(name.rpartition(".")[0]), nn.MultiheadAttention)


def _first_calls(watched: Trace) -> list[str]:
    return list(dict.fromkeys(call.name for call in watched.calls))


def _last_calls(watched: Trace) -> list[str]:
    return list(dict.fromkeys(call.name for call in reversed(watched.calls)))[::-1]


def _under_functions(watched: Trace, notes: list[str]) -> list[str]:
    """The modules of which all that is returned goes into an activation called as a function, and nowhere else."""
    found: dict[str, bool] = {}
    functions = {node for node in watched.nodes if node.operation in _FUNCTIONS and not _is_activation(node.inside[-1].module)}
    for node in watched.nodes:
        single = len(node.used_by) == 1 and node.used_by[0] in functions and node.used_by[0].operation in HOMOGENEOUS
        for call, position in node.made_by[:1]:
            found[call.name] = found.get(call.name, True) and single and not position
    for node in sorted(functions, key=lambda node: node.index):
        makers = node.parents[0].made_by[:1]
        if not makers or not found[makers[0][0].name]:
            notes.append(f"{node.operation}() in {node.inside[-1].name or 'the model'!r} is called as a function")
    return [name for name, usable in found.items() if usable]


def _name(model: nn.Module) -> str:
    return type(model).__name__
