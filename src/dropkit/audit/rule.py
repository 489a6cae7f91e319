"""What a rule of the audit is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dropkit.audit.finding import Finding, Place

if TYPE_CHECKING:
    from dropkit.audit.observation import Observation


@dataclass(frozen=True, eq=False)
class Rule:
    """One mistake that the audit looks for. The documentation's page of a rule is made of it.

    Args:
        id: ``"DK"`` and three digits; 1xx: mode and randomness, 2xx: placement, 3xx: rate and scale, 4xx: use.
        title: what it finds, in one line without a full stop.
        why: why that is bad, in a few sentences of Markdown.
        fix: how to mend it, in a few sentences of Markdown.
        severity: ``"error"`` (results are wrong), ``"warning"`` (probably not meant, or harmful), ``"note"`` (worth a look).
        confidence: ``"high"``, ``"medium"`` or ``"low"``: how often a finding is right.
        bad: source of a minimal bad model: defines ``build()``, which returns the module, and ``inputs()``, which returns what
            it is called with (for a static rule: the source that is to be flagged). It is run in tests.
        good: the same, mended; must not be flagged.
        references: where the mistake was reported or explained: author, title, year, or a repository's thread.
        check: what finds it in the observation of a model; None for a rule on source code alone.
    """

    id: str
    title: str
    why: str
    fix: str
    severity: str
    confidence: str
    bad: str
    good: str
    references: tuple[str, ...]
    check: Callable[[Observation], Iterable[Finding]] | None = None

    def finding(self, message: str, place: Place, fix: str | None = None, *, severity: str | None = None, subject: str = "",
                evidence: Mapping[str, Any] | None = None) -> Finding:
        """Make a finding of this rule.

        Args:
            message: as in `Finding`.
            place: where.
            fix: as in `Finding`. Default: the rule's, its first sentence.
            severity: of this finding. Default: the rule's.
            subject: as in `Finding`.
            evidence: what was measured.
        """
        advice = fix if fix is not None else self.fix.partition(". ")[0].removesuffix(".")
        return Finding(self.id, message, place, severity or self.severity, advice, dict(evidence or {}), subject)
