"""Find the dropout mistakes in a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from dropkit.audit.finding import SEVERITIES, Finding
from dropkit.audit.observation import Observation
from dropkit.audit.observe import observe
from dropkit.audit.result import AuditResult, Coverage, Gap
from dropkit.audit.rules import rules
from dropkit.core.errors import InputError


def audit(model: nn.Module, inputs: Any, *, select: Iterable[str] | None = None,
          ignore: Iterable[str] = ()) -> AuditResult:
    """Look for mistakes with dropout in a model: run it in training, in evaluation and in training again, and compare.

    A copy of the model runs; the model, its buffers, modes and gradients and all random states are left as they were. What
    could not be looked at is said in ``coverage.gaps``: a model with gaps is not clean, whatever was found.

    Args:
        model: any module.
        inputs: what it is called with: a tensor, a tuple or list of arguments, or a dict of keyword arguments. A few examples
            do, several for batch normalisation.
        select: ids of rules, or beginnings of some, such as ``"DK1"``. Default: all.
        ignore: ids of rules, or beginnings of some, that are left out.

    Returns:
        Findings, the most severe first, and what was covered.

    Raises:
        InputError: when ``model`` is no module, or no rule begins so.

    Example:
        >>> import torch
        >>> class Net(nn.Module):
        ...     def forward(self, x):
        ...         return nn.functional.dropout(x, 0.5)
        >>> [(found.rule, found.severity) for found in audit(Net(), torch.ones(2, 30)).findings]
        [('DK101', 'error')]
    """
    chosen = [rule for rule in rules() if rule.check is not None and _is_chosen(rule.id, select, ignore)]
    seen = observe(model, inputs)
    findings: list[Finding] = []
    for rule in chosen:
        assert rule.check is not None
        try:
            findings += rule.check(seen)
        except Exception as error:  # one rule that fails on an odd model must not hide what the others find
            seen.gaps.append(Gap(f"rule {rule.id}", f"it failed on this model: {type(error).__name__}: {error}"))
    return AuditResult(tuple(sorted(findings, key=_order)), _coverage(seen), target=type(model).__name__)


def _is_chosen(rule: str, select: Iterable[str] | None, ignore: Iterable[str]) -> bool:
    wanted = None if select is None else _checked(select)
    return (wanted is None or rule.startswith(wanted)) and not rule.startswith(_checked(ignore) or ("-",))


def _checked(names: Iterable[str]) -> tuple[str, ...]:
    found = (names,) if isinstance(names, str) else tuple(names)
    for name in found:
        if not any(rule.id.startswith(name) for rule in rules()):
            raise InputError("select and ignore name rules by their id or its beginning", got=name,
                             fix=f"Known are {', '.join(rule.id for rule in rules())}")
    return found


def _order(found: Finding) -> tuple[Any, ...]:
    place = found.place
    return -SEVERITIES.index(found.severity), place.file or "", place.line or 0, found.rule, place.module or ""


def _coverage(seen: Observation) -> Coverage:
    ran = tuple(mode for mode in seen.passes if seen.ran(mode) is not None)
    entered = {path for run in seen.passes.values() for path in run.entered}
    sites = tuple(dict.fromkeys(site.name for run in seen.passes.values() for site in run.sites))
    return Coverage(ran, len(entered), len(seen.modules), sites, gaps=tuple(seen.gaps))
