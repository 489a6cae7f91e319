"""Observe a model: in training, in evaluation, and in training again."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dropkit.audit.observation import AGAIN, EVAL, TRAIN, Observation
from dropkit.audit.probe_measure import reached, variances
from dropkit.audit.probe_pass import run_pass
from dropkit.audit.result import Gap
from dropkit.surgery.modules import walk


def observe(model: nn.Module, inputs: Any) -> Observation:
    """Run a copy of a model and tell what happened; the model and the random states stay as they are.

    Args:
        model: any module. One that cannot be copied is not run.
        inputs: as in `dropkit.surgery.calls.call_model`.
    """
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        return _observed(model, inputs)
    finally:
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


def _observed(model: nn.Module, inputs: Any) -> Observation:
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
        found = seen.passes[mode] = run_pass(probed, inputs, mode)
        if found.error is not None:
            seen.gaps.append(Gap(f"pass in {mode}", f"the model raises {type(found.error).__name__}: {found.error}"))
        elif mode == EVAL:
            found.varies = _varies(found.output, run_pass(probed, inputs, mode, seed=1).output)
            if found.varies is None:
                seen.gaps.append(Gap("outputs in eval", "they hold no tensor that two runs can be compared by"))
    entered = {path for found in seen.passes.values() for path in found.entered}
    seen.gaps += [Gap(f"module {path!r}", "compiled by torch.jit: only its randomness is seen"
                      if isinstance(part, torch.jit.ScriptModule) else "it did not run")
                  for path, part in seen.modules.items() if path not in entered]
    if seen.ran(TRAIN) is not None and seen.ran(EVAL) is not None:
        _measure(seen)
    return seen


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
