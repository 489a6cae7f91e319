"""What an audit returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dropkit.audit.finding import SEVERITIES, Finding


@dataclass(frozen=True)
class Gap:
    """Something that an audit did not look at; not covered is never clean.

    Args:
        what: the module, pass, file or rule, such as ``"module 'decoder'"`` or ``"pass in training"``.
        why: the reason, in a sentence without a full stop.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Coverage:
    """What an audit looked at.

    Args:
        passes: the passes that ran, such as ``("train", "eval", "train again")``.
        modules: how many of the model's modules ran in one of them at least.
        total: how many modules it has.
        sites: the names of the sites that were seen, as in `dropkit.sites`.
        files: source files that the static rules read.
        gaps: what was not covered.
    """

    passes: tuple[str, ...] = ()
    modules: int = 0
    total: int = 0
    sites: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not self.gaps


@dataclass(frozen=True)
class AuditResult:
    """Findings, and what was looked at.

    Args:
        findings: the most severe first, then by place.
        coverage: what was looked at and what was not.
        allowed: findings that an inline comment or a baseline allows, with the reason.
        target: what was audited, in words: a class's name, ``module:callable``, a path.
    """

    findings: tuple[Finding, ...]
    coverage: Coverage
    allowed: tuple[tuple[Finding, str], ...] = ()
    target: str = ""

    def at_least(self, severity: str) -> Sequence[Finding]:
        """Findings of a severity or above.

        Args:
            severity: ``"note"``, ``"warning"`` or ``"error"``.
        """
        return [found for found in self.findings if SEVERITIES.index(found.severity) >= SEVERITIES.index(severity)]

    @property
    def clean(self) -> bool:
        """Whether everything was covered and nothing found."""
        return not self.findings and self.coverage.complete

    def to_text(self) -> str:
        """The result for people: findings with their lines and what was measured, and what was not covered."""
        from dropkit.audit.reporters import render  # rendering is needed when it is asked for only

        return render(self, "table")

    def to_json(self) -> str:
        """The result as JSON: findings with fingerprints, allowed findings with reasons, coverage."""
        from dropkit.audit.reporters import render

        return render(self, "json")

    def to_sarif(self) -> str:
        """The result as SARIF 2.1.0, which code hosts and editors show beside the lines."""
        from dropkit.audit.reporters import render

        return render(self, "sarif")
