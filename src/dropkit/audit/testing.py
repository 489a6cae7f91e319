"""The audit as an assertion, for a project's own tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from dropkit.audit.allow import allow, without_baseline
from dropkit.audit.builders import Builder
from dropkit.audit.finding import SEVERITIES
from dropkit.core.errors import InputError


def assert_no_findings(model: nn.Module | Builder, inputs: Any, *, rates: Iterable[str] | None = None,
                       select: Iterable[str] | None = None, ignore: Iterable[str] | None = None,
                       baseline: str | os.PathLike[str] | None = None, fail_level: str = "warning",
                       complete: bool = True) -> None:
    """Fail a test if an audit of a model finds something.

    Args:
        model: the model, which is not changed, or what builds it, so that its rates are checked as well.
        inputs: what it is called with, as in `dropkit.audit`.
        rates: the builder's arguments that are rates. Default: those whose names contain "drop".
        select: ids of rules, or their beginnings such as ``"DK1"``; others are left out. Default: all.
        ignore: ids of rules, or their beginnings, to leave out. Default: none.
        baseline: a file of findings to leave out, made with ``dropkit audit --write-baseline``. Default: none.
        fail_level: the lowest severity that fails: ``"note"``, ``"warning"`` or ``"error"``. Default: ``"warning"``.
        complete: whether what could not be observed fails, too: not covered is never clean. Default: yes.

    Raises:
        AssertionError: there are findings, or gaps; the text is the audit's table.
        InputError: ``fail_level`` is none of the three.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 2))
        >>> assert_no_findings(model, torch.randn(4, 8))  # doctest: +SKIP
    """
    __tracebackhide__ = True
    from dropkit.audit.audit import audit  # torch modes and rules are loaded by tests that use them only

    if fail_level not in SEVERITIES:
        raise InputError("a level is note, warning or error", got=fail_level, fix="Name one of these")
    result = allow(audit(model, inputs, rates=rates, select=select, ignore=ignore or ()))
    if baseline is not None:
        result = without_baseline(result, baseline)
    failing = tuple(result.at_least(fail_level))
    if failing or (complete and result.coverage.gaps):
        raise AssertionError(f"the audit found dropout mistakes or could not look everywhere\n\n"
                             f"{replace(result, findings=failing).to_text()}")
