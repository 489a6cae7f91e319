"""Audit a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from dropkit.audit.finding import SEVERITIES, Finding, unique
from dropkit.audit.result import AuditResult, Coverage, Gap


def audit(model: nn.Module, inputs: Any, *, select: Iterable[str] | None = None,
          ignore: Iterable[str] | None = None) -> AuditResult:
    """Look for dropout mistakes in a model.

    Args:
        model: any module; untouched.
        inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        select: ids of rules, or how they begin, such as ``"DK1"``. Default: all.
        ignore: the same, of those to leave out. Default: none.

    Raises:
        InputError: when ``model`` is no module, or no rule begins as ``select`` or ``ignore`` say.

    Example:
        >>> from torch.nn import functional as F
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return F.dropout(x, 0.2)
        >>> import torch
        >>> [found.rule for found in audit(Head(), torch.ones(2, 30)).findings]
        ['DK101']
    """
    from dropkit.audit.allow import chosen, known_ids
    from dropkit.audit.probe import observe  # loaded when first used: every program imports this module
    from dropkit.audit.rules import rules

    wanted, unwanted = None if select is None else known_ids(select), known_ids(ignore)
    seen = observe(model, inputs)
    findings: list[Finding] = []
    gaps = list(seen.gaps)
    for rule in rules():
        if rule.check is None or not chosen(rule.id, wanted, unwanted):
            continue
        try:
            findings += unique(rule.check(seen))
        except Exception as error:
            gaps.append(Gap(f"rule {rule.id}", f"it failed ({type(error).__name__}: {error})"))
    findings.sort(key=lambda found: (-SEVERITIES.index(found.severity), str(found.place), found.rule))
    ran = tuple(mode for mode in seen.passes if seen.ran(mode))
    entered = {path for found in seen.passes.values() for path in found.entered}
    names = dict.fromkeys(site.name for mode in ran for site in seen.site_calls(mode))
    return AuditResult(tuple(findings), Coverage(ran, len(entered), len(seen.modules), tuple(names), (), tuple(gaps)),
                       target=type(model).__name__)
