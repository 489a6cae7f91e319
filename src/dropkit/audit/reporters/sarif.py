"""The reporter for code hosts and editors: SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dropkit.audit.finding import Finding
from dropkit.audit.reporters.as_json import plain
from dropkit.audit.reporters.words import shown_path
from dropkit.audit.result import AuditResult
from dropkit.audit.rule import Rule
from dropkit.audit.rules import rules

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "SRCROOT"


def as_sarif(result: AuditResult) -> str:
    """A result as a SARIF log with one run.

    Fingerprints do not change when lines move. Allowed findings are there with their suppression; what was not covered is a
    notification of the tool.

    Args:
        result: of an audit.

    References:
        OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", 2020.
    """
    every = [*result.findings, *(found for found, _ in result.allowed)]
    described = {rule.id: rule for rule in rules()}
    ids = sorted({*described, *(found.rule for found in every)})
    run = {
        "tool": {"driver": {"name": "dropkit", "semanticVersion": _version(), "version": metadata.version("dropkit"),
                            "rules": [_rule(name, described.get(name)) for name in ids]}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": [
            {"level": "warning", "message": {"text": f"Not covered, so not known to be clean: {gap.what}: {gap.why}"}}
            for gap in result.coverage.gaps]}],
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder in which the audit was started"}}},
        "results": [*(_result(found, ids) for found in result.findings),
                    *(_result(found, ids, reason) for found, reason in result.allowed)],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False)


def _rule(name: str, rule: Rule | None) -> Mapping[str, Any]:
    if rule is None:
        return {"id": name}
    text = f"{rule.why}\n\n{rule.fix}"
    example = f"Flagged:\n\n```python\n{rule.bad.rstrip()}\n```\n\nMended:\n\n```python\n{rule.good.rstrip()}\n```"
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": text, "markdown": f"{text}\n\n{example}"},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"precision": rule.confidence, "tags": ["dropout", "pytorch"]},
    }


def _result(found: Finding, ids: list[str], reason: str | None = None) -> Mapping[str, Any]:
    row: dict[str, Any] = {
        "ruleId": found.rule,
        "ruleIndex": ids.index(found.rule),
        "level": found.severity,
        "message": {"text": f"{found.message}. {found.fix}."},
        "locations": [_location(found)],
        "partialFingerprints": {"dropkitFingerprint/v1": found.fingerprint},
        "properties": {name: plain(value) for name, value in found.evidence.items()},
    }
    if reason is not None:
        kind = "external" if reason.startswith("in the baseline") else "inSource"
        row["suppressions"] = [{"kind": kind, "justification": reason}]
    return row


def _location(found: Finding) -> Mapping[str, Any]:
    place, location = found.place, dict[str, Any]()
    if place.file is not None:
        physical: dict[str, Any] = {"artifactLocation": _artifact(place.file)}
        if place.line is not None:
            physical["region"] = {"startLine": place.line, **({"snippet": {"text": place.code}} if place.code else {})}
        location["physicalLocation"] = physical
    if place.module is not None:
        name = place.module or "(model)"
        location["logicalLocations"] = [{"name": name.rpartition(".")[2], "fullyQualifiedName": name, "kind": "module"}]
    return location


def _artifact(file: str) -> Mapping[str, str]:
    path = shown_path(file)
    if Path(path).is_absolute():
        return {"uri": Path(path).as_uri()}
    return {"uri": quote(path), "uriBaseId": _ROOT}


def _version() -> str:
    """The version as SemVer writes it: ``"0.1.0.dev0"`` is ``"0.1.0-dev0"``."""
    parts = metadata.version("dropkit").split(".")
    numbers, rest = parts[:3], [part for part in parts[3:] if part]
    return ".".join(numbers) + (f"-{'.'.join(rest)}" if rest else "")
