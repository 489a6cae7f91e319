"""Modules that torch.jit has compiled: what they draw cannot be reached from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dropkit.core.errors import InputError, phrase
from dropkit.surgery.modules import modules_of, walk

_KINDS = tuple(f"aten::{kind}{place}" for kind in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
               for place in ("", "_"))


def check_readable(model: nn.Module, wanted: str) -> None:
    """Refuse scripted modules that draw random numbers: what they do cannot be turned on or off, or told apart by pass.

    Args:
        model: any module.
        wanted: what is to happen to its dropout, for the message, as in ``"acts in evaluation"``.

    Raises:
        InputError: for such a module.

    Example:
        >>> check_readable(nn.Dropout(0.5), "acts in evaluation")
    """
    for name, _ in drawing_scripts(model):
        raise InputError(f"a model whose dropout {wanted} is written in Python",
                         got=phrase(f"a scripted or traced module at {name!r}"),
                         fix="Pass the model as it was before torch.jit")


def drawing_scripts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The outermost scripted modules whose code draws random numbers, with their paths.

    Args:
        model: any module.

    Example:
        >>> drawing_scripts(nn.Dropout(0.5))
        []
    """
    scripted = [module for module in modules_of(model) if isinstance(module, torch.jit.ScriptModule)]
    inside = {part for module in scripted for part in modules_of(module)[1:]}
    return [(name, module) for name, module in walk(model) if module in scripted and module not in inside and _draws(module)
            ] if scripted else []


def is_active(module: nn.Module) -> bool:
    """Whether a scripted module drops as it is: in training mode, or whatever the mode.

    Args:
        module: one of `drawing_scripts`.
    """
    return any(part.training for part in module.modules()) or _is_fixed(module)


def _draws(module: Any) -> bool:
    return any(word in str(_graph(module)) for word in ("dropout", "bernoulli", "rand"))


def _graph(module: Any) -> Any:
    try:
        return module.inlined_graph
    except (AttributeError, RuntimeError):  # it has no forward
        return None


def _is_fixed(module: Any) -> bool:
    """Whether dropout is on whatever the mode: written so, or traced in training."""
    graph = _graph(module)  # held: its nodes end with it
    nodes = [node for kind in _KINDS for node in graph.findAllNodes(kind)] if graph is not None else []
    return any(list(node.inputs())[2].toIValue() for node in nodes)
