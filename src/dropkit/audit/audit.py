"""Audit a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from torch import nn

from dropkit.audit.finding import SEVERITIES, Finding, unique
from dropkit.audit.result import AuditResult, Coverage, Gap
from dropkit.core.errors import FAILURES, InputError

if TYPE_CHECKING:
    from dropkit.audit.observation import Observation

_ELSEWHERE = ("DK304", "DK001")  # checked of a builder, and of the comments at findings


def audit(model: nn.Module | Callable[..., nn.Module], inputs: Any, *, rates: Iterable[str] | None = None,
          select: Iterable[str] | None = None, ignore: Iterable[str] | None = None, limit: float = 300.0) -> AuditResult:
    """Look for dropout mistakes in a model.

    Args:
        model: any module; untouched. Or what builds it, a function or a class: then it is built with several rates, too, to see
            whether each reaches a site (DK304).
        inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        rates: the builder's arguments that are rates. Default: those whose names contain "drop".
        select: ids of rules, or how they begin, such as ``"DK1"``. Default: all.
        ignore: the same, of those to leave out. Default: none.
        limit: seconds after which a pass or a rule is ended and counts as not covered, above 0. Default: 300.

    Raises:
        InputError: when ``model`` is no module and builds none, no rule begins as ``select`` or ``ignore`` say or they leave
            none, ``limit`` is not above 0, or something is on the meta device, which has no values.

    Example:
        >>> from torch.nn import functional as F
        >>> class Head(nn.Module):
        ...     def forward(self, x):
        ...         return F.dropout(x, 0.2)
        >>> import torch
        >>> [found.rule for found in audit(Head(), torch.ones(2, 30)).findings]
        ['DK101']
    """
    from dropkit.audit.allow import selection
    from dropkit.audit.builders import as_built
    from dropkit.audit.probe import kept_states, observe  # loaded when first used: every program imports this module
    from dropkit.audit.probe_gaps import runs
    from dropkit.surgery.calls import refuse_meta

    if not limit > 0:
        raise InputError("a limit is a number of seconds above 0", got=limit, fix="Leave it out for 300")
    build, built, rates = as_built(model, rates)
    wanted, unwanted = selection(select, ignore, _ids())
    if isinstance(built, nn.Module):
        refuse_meta(built, inputs)
    with kept_states():
        seen = observe(built, inputs, limit)
        findings, gaps = _checked(seen, build, rates, wanted, unwanted, limit)
    ran = tuple(mode for mode in seen.passes if seen.ran(mode))
    entered = {path for found in seen.passes.values() for path in found.entered}
    total = sum(runs(part) for part in seen.modules.values())
    names = dict.fromkeys(site.name for mode in ran for site in seen.site_calls(mode))
    return AuditResult(tuple(findings), Coverage(ran, len(entered), total, tuple(names), (), (*seen.gaps, *gaps)),
                       target=type(built).__name__)


def _ids() -> list[str]:
    """The rules that a model or its builder can break: all but those on source code alone."""
    from dropkit.audit.rules import rules

    return [rule.id for rule in rules() if rule.check is not None or rule.id in _ELSEWHERE]


def _checked(seen: Observation, build: Callable[..., nn.Module] | None, rates: Any, wanted: Iterable[str] | None,
             unwanted: Iterable[str], limit: float) -> tuple[list[Finding], list[Gap]]:
    """What the chosen rules find, the most severe first, and the rules that failed."""
    from dropkit.audit.allow import chosen
    from dropkit.audit.deadline import Unfinished, ended_after
    from dropkit.audit.observation import TRAIN
    from dropkit.audit.rules import rules

    findings: list[Finding] = []
    gaps: list[Gap] = []
    for rule in rules():
        check = rule.check
        if rule.id == "DK304" and build is not None and seen.ran(TRAIN) is not None:
            check = functools.partial(_rates_reach, build, rates)
        if check is None or not chosen(rule.id, wanted, unwanted):
            continue
        try:
            with ended_after(limit):
                findings += unique(check(seen))
        except Unfinished as error:
            gaps.append(Gap(f"rule {rule.id}", str(error)))
        except FAILURES as error:
            gaps.append(Gap(f"rule {rule.id}", f"it failed ({type(error).__name__}: {error})"))
    findings.sort(key=lambda found: (-SEVERITIES.index(found.severity), str(found.place), found.rule))
    return findings, gaps


def _rates_reach(build: Callable[..., nn.Module], rates: Iterable[str], seen: Observation) -> Iterable[Finding]:
    from dropkit.audit.rules.dk304 import rates_reach

    return rates_reach(build, seen.inputs, rates)
