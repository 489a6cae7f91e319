"""The reporter for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from dropkit.audit.finding import Finding
from dropkit.audit.reporters.words import shown_path
from dropkit.audit.result import AuditResult

VERSION = 1


def as_json(result: AuditResult) -> str:
    """A result as a JSON object: ``version``, ``target``, ``clean``, ``findings``, ``allowed``, ``coverage``.

    Args:
        result: of an audit. Figures that JSON has no word for (infinity, NaN) are written as text.
    """
    coverage = result.coverage
    content = {
        "version": VERSION,
        "target": result.target,
        "clean": result.clean,
        "findings": [_finding(found) for found in result.findings],
        "allowed": [{**_finding(found), "reason": reason} for found, reason in result.allowed],
        "coverage": {
            "complete": coverage.complete, "passes": coverage.passes, "modules": coverage.modules, "total": coverage.total,
            "sites": coverage.sites, "files": [shown_path(file) for file in coverage.files],
            "gaps": [{"what": gap.what, "why": gap.why} for gap in coverage.gaps],
        },
    }
    return json.dumps(content, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """A value that JSON can hold.

    Example:
        >>> plain(float("inf")), plain(0.5)
        ('inf', 0.5)
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | bool | int | float) else str(value)


def _finding(found: Finding) -> dict[str, Any]:
    place = found.place
    return {
        "rule": found.rule, "severity": found.severity, "message": found.message, "fix": found.fix, "module": place.module,
        "file": None if place.file is None else shown_path(place.file), "line": place.line, "code": place.code,
        "subject": found.subject, "evidence": {name: plain(value) for name, value in found.evidence.items()},
        "fingerprint": found.fingerprint,
    }
