"""Measure what a model's passes leave open: variances at batch normalisation, and which parameters get a gradient."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from dropkit.audit.finding import Place
from dropkit.audit.probe_twice import Twice
from dropkit.surgery.calls import call_model, copy_inputs
from dropkit.surgery.draws import Draws
from dropkit.surgery.modules import walk


def variances(model: nn.Module, inputs: Any, training: bool, runs: int) -> dict[str, Tensor]:
    """Per channel the variance of each batch normalisation's input over examples, positions and runs.

    Args:
        model: any module; what its forward changes stays changed.
        inputs: as in `dropkit.surgery.calls.call_model`.
        training: the mode to run in. Batch normalisation itself stays in evaluation, so that nothing but dropout differs.
        runs: how many, from 1.
    """
    sums: dict[str, list[Tensor]] = {}

    def add(path: str, x: Tensor) -> None:
        flat = x.detach().transpose(0, 1).flatten(1).double() if x.dim() > 1 else x.detach()[:, None].double()
        news = [flat.sum(1), flat.square().sum(1), torch.full((len(flat),), float(flat.shape[1])).double()]
        sums[path] = [a + b for a, b in zip(sums[path], news, strict=True)] if path in sums else news

    norms = [(path, module) for path, module in walk(model) if isinstance(module, _BatchNorm)]
    if not norms:
        return {}
    model.train(training)
    with ExitStack() as undo, torch.no_grad():
        for path, module in norms:
            module.eval()
            hook = module.register_forward_pre_hook(lambda part, args, path=path: add(path, args[0]))
            undo.callback(hook.remove)
        for _ in range(runs):
            call_model(model, copy_inputs(inputs))
    return {path: square / count - (total / count).square() for path, (total, square, count) in sums.items()}


def reached(model: nn.Module, inputs: Any) -> tuple[set[str], list[Place], list[str]]:
    """The names of the parameters that get a gradient from a sum of the outputs in training, what draws anew, and functions.

    Args:
        model: any module; its gradients are overwritten.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Returns:
        The names; the lines as in `Observation.redrawn`; the names of functions, neither torch's nor dropkit's, that compute
        their own gradients.
    """
    model.train()
    own = {name: x for name, x in model.named_parameters() if x.is_leaf}  # copies of scripted modules' are none, and get none
    for x in own.values():
        x.grad = None
    twice = Twice()
    with torch.enable_grad(), Draws(twice.drawn):
        outputs = [x for x in tree_leaves(call_model(model, copy_inputs(inputs))) if isinstance(x, Tensor) and x.requires_grad]
        functions = _functions(outputs)
        twice.backward = True
        if outputs:
            torch.stack([x.sum() for x in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    return {name for name, x in own.items() if x.grad is not None}, twice.redrawn, functions


def _functions(outputs: Iterable[Tensor]) -> list[str]:
    """The autograd functions in a graph that are written in Python by somebody else."""
    ahead: list[Any] = [x.grad_fn for x in outputs]
    seen: set[Any] = set()
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen.add(node)
            ahead += [above for above, _ in node.next_functions]
    kinds = [type(node)._forward_cls for node in seen if isinstance(node, BackwardCFunction)]  # type: ignore[attr-defined]
    return sorted({kind.__name__ for kind in kinds if not kind.__module__.startswith(("torch.", "dropkit."))})
