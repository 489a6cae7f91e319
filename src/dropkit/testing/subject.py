"""What is under test: how to make it, what to feed it, and what it claims."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dropkit.core.errors import InputError
from dropkit.core.streams import keyed
from dropkit.variants.claims import Claims, Variant

PASSES = 400
"""Stochastic passes behind a statistical check."""

SIGMAS = 5.3
"""A t statistic with PASSES - 1 degrees of freedom exceeds this in absolute value with a probability of 2 in 10^7."""


@dataclass(frozen=True)
class Subject:
    """A dropout under test.

    Args:
        make: a module at a rate.
        inputs: arguments of its ``forward`` for a batch of so many examples.
        claims: what it promises.
        unbatched: arguments without the batch dimension, if it takes such.
        call: the pure function as ``call(*inputs, p, training=..., generator=...)``, if there is one.
    """

    make: Callable[[float], nn.Module]
    inputs: Callable[[int], tuple[Any, ...]]
    claims: Claims
    unbatched: Callable[[], tuple[Any, ...]] | None = None
    call: Callable[..., Any] | None = None

    @property
    def floating(self) -> bool:
        """Whether the data is floating, so that it has gradients."""
        return bool(self.inputs(1)[0].is_floating_point())

    @property
    def full_rate(self) -> bool:
        """Whether the module can be made at any rate."""
        return self.claims.rate is not None

    def module(self, p: float = 0.5) -> nn.Module:
        """Return a fresh module in training mode, the same one for the same rate."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make(p).train()

    def data(self, count: int = 4, seed: int = 0) -> tuple[Any, ...]:
        """Return a batch, the same one for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.inputs(count)


def subject_of(row: Variant) -> Subject:
    """The subject that a row of the catalog describes.

    Args:
        row: of the catalog.
    """
    trial = row.trial
    return Subject(trial.make, trial.inputs, row.claims, trial.unbatched, trial.call or row.function)


def subject_from(module: Any, inputs: Any, claims: Claims, call: Callable[..., Any] | None) -> Subject:
    """The subject that a user describes.

    Args:
        module: a module with a rate, or what makes one from a rate.
        inputs: a function of the batch's size, or None for normal data of shape (batch, 6, 10).
        claims: what the module promises.
        call: its pure function.

    Raises:
        InputError: for something that is neither a module nor callable.
    """
    if not isinstance(module, nn.Module) and not callable(module):
        raise InputError("what is checked is a module, or a function that makes one from a rate", got=module,
                         fix="Pass MyDropout(0.5), or the class MyDropout")
    if claims.rate is not None and isinstance(module, nn.Module) and not hasattr(module, claims.rate):
        raise InputError(f"a module with a rate has it as its attribute {claims.rate!r}", got=module,
                         fix="Name the attribute in Claims(rate=...), or None if there is no rate")

    def copied(p: float) -> nn.Module:
        other: nn.Module = copy.deepcopy(module)
        if claims.rate is not None:
            setattr(other, claims.rate, p)
        return other

    feed = inputs if inputs is not None else lambda count: (torch.randn(count, 6, 10),)
    return Subject(copied if isinstance(module, nn.Module) else module, feed, claims, None, call)


def first(output: Any) -> Tensor:
    """The tensor to look at: the output, or the first entry of a tuple."""
    value = output[0] if isinstance(output, tuple | list) else output
    assert isinstance(value, Tensor), f"the output is a tensor or begins with one, not {type(value).__name__}"
    return value


def run_keyed(module: nn.Module, inputs: tuple[Any, ...], seed: int = 1, step: int = 0, turn: int = 0) -> Tensor:
    """Call a module inside `keyed`."""
    with keyed(seed, step, pass_index=turn):
        return first(module(*inputs))


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal, NaN equal to NaN."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal but for the rounding of sums in another order."""
    slack = 32 * torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0
    return a.shape == b.shape and torch.allclose(a, b, rtol=slack, atol=slack, equal_nan=True)


def t_statistic(values: Tensor, expected: float) -> float:
    """How many standard errors the mean of independent values is away from its expectation.

    Args:
        values: one a pass.
        expected: the claimed mean.
    """
    values = values.double()
    error = float(values.mean()) - expected
    spread = float(values.std()) / math.sqrt(len(values))
    rounding = 1e-7 * (1.0 + abs(expected))  # of float32 data
    return 0.0 if abs(error) <= rounding else error / max(spread, 1e-300)
