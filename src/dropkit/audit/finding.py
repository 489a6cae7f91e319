"""What an audit finds: a rule broken at a place, with the evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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
    """One finding of each line: a site may run many times, in a loop over time or layers.

    Args:
        findings: of those of one rule that name one line of one module, and one function, the first is kept.

    Example:
        >>> steps = [Finding("DK303", "drops", Place("", "net.py", 3), "warning", "Move it", subject=f"dropout#{n}")
        ...          for n in (1, 2)]
        >>> len(list(unique(steps)))
        1
    """
    told: set[tuple[str, Place, str]] = set()
    for found in findings:
        key = found.rule, found.place, found.subject.partition("#")[0]
        if key not in told:
            told.add(key)
            yield found
