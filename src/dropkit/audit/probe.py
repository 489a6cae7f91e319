"""Observe a model: in training, in evaluation, and in training again."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from dropkit.audit.deadline import ENDED, Unfinished, ended_after
from dropkit.audit.leaves import differ
from dropkit.audit.observation import AGAIN, EVAL, TRAIN, Observation
from dropkit.audit.probe_gaps import not_run, untold
from dropkit.audit.probe_measure import reached, variances
from dropkit.audit.probe_pass import LIMIT, run_pass
from dropkit.audit.result import Gap
from dropkit.core.errors import FAILURES
from dropkit.surgery.modules import walk


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
    except FAILURES as error:
        gap = Gap("every pass", f"the model cannot be copied ({type(error).__name__}: {error})")
        return Observation(model, dict(walk(model)), inputs, gaps=[gap])
    seen = Observation(probed, dict(walk(probed)), inputs)
    for mode in (TRAIN, EVAL, AGAIN):
        try:
            probed.train(mode != EVAL)
        except FAILURES as error:
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
            found.varies = None if other.error is not None else differ(found.output, other.output)
            if found.varies is None:
                seen.gaps.append(Gap("outputs in eval", "two runs gave no tensors to be compared"))
    seen.gaps += [*not_run(seen), *untold(seen)]
    if all(seen.ran(mode) is not None for mode in (TRAIN, EVAL, AGAIN)):
        _measure(seen, limit)
    return seen


def _measure(seen: Observation, limit: float) -> None:
    try:
        with ended_after(limit):
            train, quiet = (variances(seen.model, seen.inputs, mode, 16 if mode else 1) for mode in (True, False))
        seen.batch_norm_inputs = {path: (train[path], quiet[path]) for path in train if path in quiet}
    except ENDED as error:
        seen.gaps.append(Gap("batch normalisation", f"measuring raises {type(error).__name__}: {error}"))
    try:
        with ended_after(limit):
            seen.gradients, seen.redrawn, functions = reached(seen.model, seen.inputs)
        seen.gaps += [Gap(f"autograd function {name!r}", "its gradient is computed by code of its own") for name in functions]
    except ENDED as error:
        seen.gaps.append(Gap("gradients", f"measuring raises {type(error).__name__}: {error}"))
