"""Audit a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from dropkit.audit.finding import SEVERITIES, Finding, unique
from dropkit.audit.result import AuditResult, Coverage, Gap

if TYPE_CHECKING:
    from dropkit.audit.observation import Observation


def audit(model: nn.Module | Callable[..., nn.Module], inputs: Any, *, rates: Iterable[str] | None = None,
          select: Iterable[str] | None = None, ignore: Iterable[str] | None = None) -> AuditResult:
    """Look for dropout mistakes in a model.

    Args:
        model: any module; untouched. Or what builds it, a function or a class: then it is built with several rates, too, to see
            whether each reaches a site (DK304).
        inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        rates: the builder's arguments that are rates. Default: those whose names contain "drop".
        select: ids of rules, or how they begin, such as ``"DK1"``. Default: all.
        ignore: the same, of those to leave out. Default: none.

    Raises:
        InputError: when ``model`` is no module and builds none, or no rule begins as ``select`` or ``ignore`` say.

    Example:
        >>> from torch.nn import functional as F
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return F.dropout(x, 0.2)
        >>> import torch
        >>> [found.rule for found in audit(Head(), torch.ones(2, 30)).findings]
        ['DK101']
    """
    from dropkit.audit.allow import known_ids
    from dropkit.audit.builders import as_built
    from dropkit.audit.probe import kept_states, observe, runs  # loaded when first used: every program imports this module

    build, built, rates = as_built(model, rates)
    wanted, unwanted = None if select is None else known_ids(select), known_ids(ignore)
    with kept_states():
        seen = observe(built, inputs)
        findings, gaps = _checked(seen, build, rates, wanted, unwanted)
    ran = tuple(mode for mode in seen.passes if seen.ran(mode))
    entered = {path for found in seen.passes.values() for path in found.entered}
    total = sum(runs(part) for part in seen.modules.values())
    names = dict.fromkeys(site.name for mode in ran for site in seen.site_calls(mode))
    return AuditResult(tuple(findings), Coverage(ran, len(entered), total, tuple(names), (), (*seen.gaps, *gaps)),
                       target=type(built).__name__)


def _checked(seen: Observation, build: Callable[..., nn.Module] | None, rates: Any, wanted: Iterable[str] | None,
             unwanted: Iterable[str]) -> tuple[list[Finding], list[Gap]]:
    """What the chosen rules find, the most severe first, and the rules that failed."""
    from dropkit.audit.allow import chosen
    from dropkit.audit.rules import rules
    from dropkit.audit.rules.dk304 import rates_reach

    findings: list[Finding] = []
    gaps: list[Gap] = []
    for rule in rules():
        check = rule.check if build is None or rule.id != "DK304" else lambda seen: rates_reach(build, seen.inputs, rates)
        if check is None or not chosen(rule.id, wanted, unwanted):
            continue
        try:
            findings += unique(check(seen))
        except Exception as error:
            gaps.append(Gap(f"rule {rule.id}", f"it failed ({type(error).__name__}: {error})"))
    findings.sort(key=lambda found: (-SEVERITIES.index(found.severity), str(found.place), found.rule))
    return findings, gaps
