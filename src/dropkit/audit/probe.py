"""Observe a model: in training, in evaluation, and in training again."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dropkit.audit.finding import alike_path
from dropkit.audit.observation import AGAIN, EVAL, TRAIN, Observation
from dropkit.audit.probe_measure import reached, variances
from dropkit.audit.probe_pass import LIMIT, Unfinished, run_pass
from dropkit.audit.result import Gap
from dropkit.surgery.modules import kind_of, walk


def observe(model: nn.Module, inputs: Any, limit: float = LIMIT) -> Observation:
    """Run a copy of a model and tell what happened; the model and the random states stay as they are.

    Args:
        model: any module. One that cannot be copied is not run.
        inputs: as in `dropkit.surgery.calls.call_model`.
        limit: seconds after which a pass is ended and counts as not covered. Default: 300.
    """
    with kept_states():
        return _observed(model, inputs, limit)


@contextmanager
def kept_states() -> Iterator[None]:
    """Put back all random states at the end of the ``with``; those of CUDA's devices if CUDA is in use.

    Example:
        >>> with kept_states():
        ...     first = torch.rand(1)
        >>> torch.equal(first, torch.rand(1))
        True
    """
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


def _observed(model: nn.Module, inputs: Any, limit: float) -> Observation:
    try:
        probed = copy.deepcopy(model)
    except Exception as error:
        gap = Gap("every pass", f"the model cannot be copied ({type(error).__name__}: {error})")
        return Observation(model, dict(walk(model)), inputs, gaps=[gap])
    seen = Observation(probed, dict(walk(probed)), inputs)
    for mode in (TRAIN, EVAL, AGAIN):
        try:
            probed.train(mode != EVAL)
        except Exception as error:
            seen.gaps.append(Gap(f"pass in {mode}", f"the mode cannot be set ({type(error).__name__}: {error})"))
            continue
        found = seen.passes[mode] = run_pass(probed, inputs, mode, limit=limit)
        if isinstance(found.error, Unfinished):
            seen.gaps.append(Gap(f"pass in {mode} and all after it", str(found.error)))
            break
        if found.error is not None:
            seen.gaps.append(Gap(f"pass in {mode}", f"the model raises {type(found.error).__name__}: {found.error}"))
        elif mode == EVAL:
            other = run_pass(probed, inputs, mode, seed=1, limit=limit)
            found.varies = None if other.error is not None else _varies(found.output, other.output)
            if found.varies is None:
                seen.gaps.append(Gap("outputs in eval", "two runs gave no tensors to be compared"))
    seen.gaps += _not_run(seen)
    if all(seen.ran(mode) is not None for mode in (TRAIN, EVAL, AGAIN)):
        _measure(seen)
    return seen


def _not_run(seen: Observation) -> Iterator[Gap]:
    """The modules that no pass ran, those of one kind in layers of one kind as one."""
    entered = {path for found in seen.passes.values() for path in found.entered}
    kinds: dict[tuple[str, str, type], list[str]] = {}
    for path, part in seen.modules.items():
        if path not in entered and _tells(part):
            why = "compiled by torch.jit: only its randomness is seen" if isinstance(part, torch.jit.ScriptModule) else (
                "it did not run")
            kinds.setdefault((alike_path(path), why, type(part)), []).append(path)
    for (alike, why, _), paths in kinds.items():
        yield Gap(f"module {paths[0]!r}" if len(paths) == 1 else f"{len(paths)} modules {alike!r}", why)


def _tells(part: nn.Module) -> bool:
    """Whether it matters that a module did not run: torch's own layers do what they are known for."""
    if not runs(part):
        return False
    return not type(part).__module__.startswith("torch.nn.modules") or kind_of(part) is not None or bool(list(part.children()))


def runs(part: nn.Module) -> bool:
    """Whether a module has a forward: lists of modules have none.

    Args:
        part: any module.

    Example:
        >>> runs(nn.ModuleList()), runs(nn.Sequential())
        (False, True)
    """
    return isinstance(part, torch.jit.ScriptModule) or type(part).forward is not nn.Module.forward


def _measure(seen: Observation) -> None:
    try:
        train, quiet = (variances(seen.model, seen.inputs, mode, 16 if mode else 1) for mode in (True, False))
        seen.batch_norm_inputs = {path: (train[path], quiet[path]) for path in train if path in quiet}
    except Exception as error:
        seen.gaps.append(Gap("batch normalisation", f"measuring raises {type(error).__name__}: {error}"))
    try:
        seen.gradients, seen.redrawn = reached(seen.model, seen.inputs)
    except Exception as error:
        seen.gaps.append(Gap("gradients", f"measuring raises {type(error).__name__}: {error}"))


def _varies(first: Any, second: Any) -> bool | None:
    """Whether two outputs differ; None where they hold no tensors to tell by."""
    pairs = [[leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)] for x in (first, second)]
    if not pairs[0]:
        return None
    return len(pairs[0]) != len(pairs[1]) or any(
        a.shape != b.shape or not torch.allclose(a, b, equal_nan=True) for a, b in zip(*pairs, strict=True))
