"""What every reporter says in the same words: paths, counts, coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dropkit.audit.finding import SEVERITIES, Finding
from dropkit.audit.result import AuditResult


def shown_path(file: str) -> str:
    """A path from the current folder if it is below it, with forward slashes."""
    path = Path(file)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return path.as_posix()


def counted(number: int, noun: str) -> str:
    """``"1 error"``, ``"2 errors"``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def count_severities(findings: Iterable[Finding]) -> str:
    """``"1 error, 2 warnings"``: severities that occur, the worst first."""
    counts = Counter(found.severity for found in findings)
    return ", ".join(counted(counts[name], name) for name in reversed(SEVERITIES) if counts[name]) or "no findings"


def covered(result: AuditResult) -> str:
    """What an audit looked at, as a clause."""
    found = result.coverage
    parts = [f"passes {', '.join(found.passes)}"] if found.passes else []
    if found.total:
        rest = " ran, and do the work of the others" if found.complete and found.modules < found.total else ""
        parts.append(f"{found.modules} of {counted(found.total, 'module')}{rest}")
    if found.passes:
        parts.append(counted(len(found.sites), "dropout site"))
    if found.files:
        parts.append(f"{counted(len(found.files), 'source file')} read")
    return "; ".join(parts) or "nothing"


def measured(finding: Finding) -> str:
    """A finding's evidence as ``"name value, name value"``."""
    return ", ".join(f"{name.replace('_', ' ')} {_figure(value)}" for name, value in finding.evidence.items())


def _figure(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
