"""Run a copy of a model in training, in evaluation and in training again, and note what a rule may want to know."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils import _pytree as pytree

from dropkit.audit.observation import AGAIN, EVAL, TRAIN, Observation, Pass
from dropkit.audit.probe import watch
from dropkit.audit.result import Gap
from dropkit.core.errors import InputError, phrase
from dropkit.surgery.calls import call_model, copy_inputs, undisturbed
from dropkit.surgery.modules import unwrap, walk

_RUNS = 12  # forwards over which the variance of batch normalisation's inputs is taken, in each mode


def observe(model: nn.Module, inputs: Any) -> Observation:
    """Observe a model; it is left as it was, whatever it does.

    Args:
        model: any module.
        inputs: as in `dropkit.surgery.calls.call_model`.

    Raises:
        InputError: when ``model`` is no module.

    Example:
        >>> found = observe(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), torch.ones(4, 2))
        >>> [(mode, len(run.sites)) for mode, run in found.passes.items()]
        [('train', 1), ('eval', 1), ('train again', 1)]
    """
    if not isinstance(model, nn.Module):
        raise InputError("a model is a torch.nn.Module", got=phrase(type(model).__name__),
                         fix="Pass the module, not its class or output")
    with undisturbed(model):
        subject, gaps = _copied(unwrap(model))
        found = Observation(subject, dict(walk(subject)), inputs, gaps=gaps)
        with torch.no_grad():
            for mode in (TRAIN, EVAL, AGAIN):
                subject.train(mode != EVAL)
                found.passes[mode] = watch(subject, inputs, mode)
                if mode == EVAL:
                    _compare(found)  # before training again, which moves running statistics
            subject.eval()
            _measure(found)
    _note_gaps(found)
    return found


def _copied(model: nn.Module) -> tuple[nn.Module, list[Gap]]:
    try:
        return copy.deepcopy(model), []
    except Exception as error:
        why = f"it cannot be copied ({type(error).__name__}), so it was run itself and put back"
        return model, [Gap("copy of the model", why)]


def _compare(found: Observation) -> None:
    """Tell whether evaluation gives another output when all generators begin elsewhere."""
    first = found.ran(EVAL)
    if first is None:
        return
    second = watch(found.model, found.inputs, EVAL, seed=1)
    if second.error is None:
        pairs = list(zip(_tensors(first.output), _tensors(second.output), strict=False))
        first.varies = any(one.shape != other.shape or not torch.equal(one, other) for one, other in pairs)


def _measure(found: Observation) -> None:
    """The variance of what batch normalisation gets, by channel, in training and in evaluation of all else."""
    norms: dict[nn.Module, str] = {module: path for path, module in found.modules.items()
                                   if isinstance(module, _NormBase) and module.track_running_stats}
    if not norms or found.ran(TRAIN) is None:
        return
    sums: dict[str, dict[bool, list[Tensor]]] = {path: {True: [], False: []} for path in norms.values()}
    for training in (True, False):
        for seed in range(_RUNS if training else 1):
            torch.manual_seed(seed)
            with _inputs_of(norms, lambda path, x, training=training: sums[path][training].append(x)):
                found.model.train(training)
                for module in norms:
                    module.eval()  # the statistics are the same in both modes; the noise before them is not
                try:
                    call_model(found.model, copy_inputs(found.inputs))
                except Exception:
                    return
    found.model.eval()
    for path, kept in sums.items():
        if kept[True] and kept[False]:
            found.batch_norm_inputs[path] = (_variance(kept[True]), _variance(kept[False]))


@contextmanager
def _inputs_of(norms: dict[nn.Module, str], take: Any) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(lambda module, args: take(norms[module], args[0].detach().clone()))
               for module in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _variance(xs: list[Tensor]) -> Tensor:
    x = torch.cat([x.transpose(0, 1).flatten(1) for x in xs], 1).double()
    return x.var(1, correction=0)


def _tensors(output: Any) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(output) if isinstance(x, Tensor)]


def _note_gaps(found: Observation) -> None:
    entered: set[str] = set()
    for mode, run in found.passes.items():
        entered |= run.entered
        if run.error is not None:
            found.gaps.append(Gap(f"pass {mode!r}", f"the model raises {type(run.error).__name__}: {_first_line(run)}"))
    leaves = [path for path, module in found.modules.items() if not list(module.children()) and path not in entered]
    if leaves:
        shown = ", ".join(leaves[:5]) + (", ..." if len(leaves) > 5 else "")
        found.gaps.append(Gap(f"{len(leaves)} modules", f"they did not run on these inputs: {shown}"))
    scripted = [path or "(model)" for path, module in found.modules.items() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        found.gaps.append(Gap("scripted modules", f"what they do inside is not seen: {', '.join(scripted[:5])}"))


def _first_line(run: Pass) -> str:
    return (str(run.error).strip().splitlines() or ["no message"])[0]
