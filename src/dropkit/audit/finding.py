"""What an audit finds: a rule broken at a place, with the evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

SEVERITIES = ("note", "warning", "error")


@dataclass(frozen=True)
class Place:
    """Where a finding is.

    Args:
        module: the path of the module in the model, empty for the model itself; None for a finding in source code alone.
        file: the source file of the line that is to change; None where it is not known.
        line: its line, from 1; None where it is not known.
        code: the line's text, without indentation; empty where it is not known.
    """

    module: str | None = None
    file: str | None = None
    line: int | None = None
    code: str = ""

    def __str__(self) -> str:
        source = "" if self.file is None else self.file if self.line is None else f"{self.file}:{self.line}"
        named = "" if self.module is None else self.module or "(model)"
        return f"{named} ({source})" if named and source else named or source or "(unknown)"


@dataclass(frozen=True)
class Finding:
    """One mistake.

    Args:
        rule: the rule's id, such as ``"DK101"``.
        message: what is wrong here, in a sentence without a full stop: names, rates and measured figures included.
        place: where.
        severity: ``"error"``, ``"warning"`` or ``"note"``.
        fix: what to do here, as a sentence without a full stop.
        evidence: what was measured, by name.
        subject: what tells this finding from others of the rule in the same module, such as a call's name;
            part of the fingerprint.
    """

    rule: str
    message: str
    place: Place
    severity: str
    fix: str
    evidence: Mapping[str, float | int | str | bool] = field(default_factory=dict, compare=False)
    subject: str = ""

    @property
    def fingerprint(self) -> str:
        """What stays the same when lines move: a hash of the rule, the module, the file's name and the line's text.

        Example:
            >>> first = Finding("DK101", "drops", Place("head", "a/net.py", 3, "F.dropout(x)"), "error", "Pass training")
            >>> moved = Finding("DK101", "drops", Place("head", "b/net.py", 9, "F.dropout(x)"), "error", "Pass training")
            >>> first.fingerprint == moved.fingerprint
            True
        """
        name = (self.place.file or "").replace("\\", "/").rpartition("/")[2]
        parts = (self.rule, self.place.module or "", name, " ".join(self.place.code.split()), self.subject)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def unique(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding of each line: a site may run many times, in a loop over time, and stand in many layers of one kind.

    Args:
        findings: of those of one rule, line, severity and rate whose modules' paths differ in nothing but numbers, the first is
            kept and names the others.

    Example:
        >>> layers = [Finding("DK202", "drops", Place(f"layers.{n}.drop", "net.py", 3), "warning", "Move it", subject="drop")
        ...           for n in (0, 1, 1)]
        >>> [(found.place.module, found.message) for found in unique(layers)]
        [('layers.0.drop', 'drops; so does layers.1.drop')]
    """
    groups: dict[tuple[object, ...], dict[tuple[object, ...], Finding]] = {}
    for found in findings:
        place = found.place
        named = found.subject.partition("#")[0]
        own = (place.module, named)
        alike = own if place.line is None else (alike_path(place.module or ""), alike_path(named))
        key = found.rule, found.severity, place.file, place.line, found.evidence.get("p"), *alike
        groups.setdefault(key, {}).setdefault(own, found)
    for same in groups.values():
        first, *others = same.values()
        yield replace(first, message=first.message + _also(others)) if others else first


def alike_path(path: str) -> str:
    """A module's path with a star for each number in it, which layers of one kind share.

    Args:
        path: as in `Place.module`.

    Example:
        >>> alike_path("blocks.12.conv2.0")
        'blocks.*.conv2.*'
    """
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def _also(others: Sequence[Finding]) -> str:
    names = list(dict.fromkeys(found.place.module or "(model)" for found in others))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"; so {'does' if len(names) == 1 else 'do'} {shown}"
