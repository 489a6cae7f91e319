"""Results of an audit as text: for people, for programs, for code hosts."""

from __future__ import annotations

from collections.abc import Callable

from dropkit.audit.reporters.as_json import as_json
from dropkit.audit.reporters.github import as_annotations
from dropkit.audit.reporters.sarif import as_sarif
from dropkit.audit.reporters.table import as_table
from dropkit.audit.result import AuditResult
from dropkit.core.errors import InputError

FORMATS: dict[str, Callable[[AuditResult], str]] = {
    "table": as_table, "json": as_json, "sarif": as_sarif, "github": as_annotations,
}


def render(result: AuditResult, format: str) -> str:
    """Write a result as text.

    Args:
        result: of an audit.
        format: ``"table"``, ``"json"``, ``"sarif"`` (version 2.1.0) or ``"github"`` (workflow commands that annotate lines).

    Raises:
        InputError: there is no such format.

    Example:
        >>> from dropkit.audit.result import AuditResult, Coverage
        >>> render(AuditResult((), Coverage(files=("fit.py",))), "table").splitlines()[0]
        'No findings.'
    """
    if format not in FORMATS:
        raise InputError("a format is table, json, sarif or github", got=format, fix="Name one of these")
    return FORMATS[format](result)
