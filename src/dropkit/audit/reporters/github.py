"""The reporter for GitHub's workflows: commands that annotate lines."""

from __future__ import annotations

from dropkit.audit.finding import Finding
from dropkit.audit.reporters.words import count_severities, covered, shown_path
from dropkit.audit.result import AuditResult

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def as_annotations(result: AuditResult) -> str:
    """A result as workflow commands ``::error file=...,line=...,title=...::message``, one a line, and a line of plain text.

    Args:
        result: of an audit. What was not covered is a notice.

    References:
        GitHub Docs, "Workflow commands for GitHub Actions".
    """
    lines = [_command(found) for found in result.findings]
    lines += [f"::notice title=dropkit audit::{_escaped(f'Not covered, so not known to be clean: {gap.what}: {gap.why}')}"
              for gap in result.coverage.gaps]
    return "\n".join([*lines, f"dropkit audit: {count_severities(result.findings)}; covered: {covered(result)}"])


def _command(found: Finding) -> str:
    place = found.place
    properties = {"title": f"dropkit {found.rule}"}
    if place.line is not None:
        properties = {"line": str(place.line), **properties}
    if place.file is not None:
        properties = {"file": shown_path(place.file), **properties}
    module = f" [module {place.module or '(model)'}]" if place.module is not None else ""
    given = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
    return f"::{_COMMANDS[found.severity]} {given}::{_escaped(f'{found.message}{module}. {found.fix}.')}"


def _escaped(text: str, also: str = "") -> str:
    for mark in ("%", "\r", "\n", *also):  # the percent sign first: the others bring new ones
        text = text.replace(mark, f"%{ord(mark):02X}")
    return text
