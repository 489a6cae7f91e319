"""The reporter for people."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec

from dropkit.audit.finding import Finding
from dropkit.audit.reporters.words import count_severities, counted, covered, measured, shown_path
from dropkit.audit.result import AuditResult

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
Piece = tuple[str, str]  # text, style


def as_table(result: AuditResult, *, colour: bool = False) -> str:
    """A result for people: findings with their source lines, evidence and advice, then what was covered and what was not.

    Args:
        result: of an audit.
        colour: whether to colour it for a terminal. Needs the package ``rich``; without it the text is plain.
    """
    lines = list(_lines(result))
    if colour and find_spec("rich") is not None:
        return _coloured(lines)
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def _lines(result: AuditResult) -> Iterator[list[Piece]]:
    for finding in result.findings:
        yield from _finding(finding)
        yield []
    yield [(f"{_capital(count_severities(result.findings))}{_allowed(result)}.", "bold")]
    for allowed, reason in result.allowed:
        yield [(f"  allowed: {allowed.rule} {allowed.place} ({reason})", "dim")]
    yield [(f"Covered: {covered(result)}.", "")]
    if result.coverage.gaps:
        yield [("Not covered, so not known to be clean:", "bold yellow")]
        for gap in result.coverage.gaps:
            yield [(f"  {gap.what}: {gap.why}", "")]


def _finding(finding: Finding) -> Iterator[list[Piece]]:
    place = finding.place
    source = "" if place.file is None else shown_path(place.file) + ("" if place.line is None else f":{place.line}")
    module = "" if place.module is None else place.module or "(model)"
    yield [(f"{finding.severity} {finding.rule}", _STYLES[finding.severity]),
           (f"  {'  '.join(part for part in (source, module) if part) or '(place unknown)'}", "bold")]
    yield [(f"  {finding.message}", "")]
    if place.code:
        yield [("    " + (f"{place.line} | " if place.line else "| "), "dim"), (place.code, "")]
    if finding.evidence:
        yield [(f"  measured: {measured(finding)}", "")]
    yield [(f"  fix: {finding.fix}", "green")]


def _allowed(result: AuditResult) -> str:
    return f"; {counted(len(result.allowed), 'finding')} allowed" if result.allowed else ""


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _coloured(lines: list[list[Piece]]) -> str:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=True, highlight=False, width=200)
    for line in lines:
        console.print(Text.assemble(*line), soft_wrap=True)
    return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]
