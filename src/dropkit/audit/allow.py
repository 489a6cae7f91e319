"""What a reader has judged already: inline comments, baselines, chosen rules."""

from __future__ import annotations

import io
import json
import os
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dropkit.audit.finding import Finding, Place
from dropkit.audit.result import AuditResult
from dropkit.audit.rules import dk001
from dropkit.core.errors import InputError, phrase
from dropkit.core.files import write_atomically

_COMMENT = re.compile(r"#\s*dropkit:\s*allow\s+(?P<rules>DK\d{3}(?:\s*,\s*DK\d{3})*)\s*(?P<reason>.*)$")
_VERSION = 1


@dataclass(frozen=True)
class Allowance:
    """An inline comment ``# dropkit: allow DK101 (reason)``.

    Args:
        line: the line of code that it is about, from 1: its own, or the next with code if it stands alone.
        rules: the ids that it allows.
        reason: what stands in the brackets; empty if nothing does.
        written: the line of the comment.
        code: the text of the comment.
    """

    line: int
    rules: tuple[str, ...]
    reason: str
    written: int
    code: str


def allowances(text: str) -> list[Allowance]:
    """The inline allowances of a source.

    Args:
        text: the source. What is no Python source has none.

    Example:
        >>> allowances("y = drop(x)  # dropkit: allow DK101 (samples are wanted)")[0].reason
        'samples are wanted'
    """
    return list(_allowances(text)) if "dropkit:" in text else []


def allow(result: AuditResult, *, notes: bool = True) -> AuditResult:
    """Set apart the findings that a comment on their line, or on the line above, allows with a reason.

    A comment without a reason allows nothing.

    Args:
        result: of an audit.
        notes: whether an allowance without a reason is a finding of its own, a note. Default: yes.

    Returns:
        The result; applying it twice changes nothing.
    """
    files = {found.place.file for found in result.findings if found.place.file}
    texts = {file: _text(file) for file in files}
    by_line = {(file, found.line, rule): found for file, text in texts.items() for found in allowances(text)
               for rule in found.rules if found.reason}
    kept, allowed = [], list(result.allowed)
    for finding in result.findings:
        comment = by_line.get((finding.place.file or "", finding.place.line or 0, finding.rule))
        if comment is None:
            kept.append(finding)
        else:
            allowed.append((finding, comment.reason))
    if notes:
        known = set(kept)
        kept += [found for file in sorted(files - {None}, key=str) for found in unreasoned(str(file), texts[file])
                 if found not in known]
    return replace(result, findings=tuple(kept), allowed=tuple(allowed))


def unreasoned(file: str, text: str) -> list[Finding]:
    """A note for each allowance that gives no reason.

    Args:
        file: how the findings name the file.
        text: its source.
    """
    return [dk001.RULE.finding(f"The comment that allows {', '.join(found.rules)} gives no reason and allows nothing",
                               Place(file=file, line=found.written, code=found.code), subject=",".join(found.rules))
            for found in allowances(text) if not found.reason]


def known_ids(names: Iterable[str] | None) -> tuple[str, ...]:
    """Ids of rules, or beginnings of some, as a user gives them.

    Args:
        names: the ids; one alone may be a str; None for none.

    Raises:
        InputError: no rule begins so.

    Example:
        >>> known_ids(["DK1", "DK201"])
        ('DK1', 'DK201')
    """
    from dropkit.audit.rules import rules  # which this module's users load anyway, and others need not

    found = (names,) if isinstance(names, str) else tuple(names or ())
    known = [rule.id for rule in rules()]
    for name in found:
        if not name or not any(rule.startswith(name) for rule in known):
            raise InputError("a rule is named by its id or the beginning of it", got=name, fix=f"Known are {', '.join(known)}")
    return found


def selection(select: Iterable[str] | None, ignore: Iterable[str] | None,
              checked: Iterable[str]) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Rules to look at and to leave out, as `chosen` takes them.

    Args:
        select: as a user gives them; None for all.
        ignore: as a user gives them.
        checked: the ids of the rules that can be looked at.

    Raises:
        InputError: no rule begins so, or none is left, which would make everything look clean.

    Example:
        >>> selection(["DK1"], None, ["DK101", "DK201"])
        (('DK1',), ())
    """
    wanted, unwanted = None if select is None else known_ids(select), known_ids(ignore)
    ids = tuple(checked)
    if not any(chosen(rule, wanted, unwanted) for rule in ids):
        picked = "all" if wanted is None else ", ".join(wanted) or "none"
        raise InputError("an audit looks at one rule at least of those that apply to what it is given",
                         got=phrase(f"{picked} selected, {', '.join(unwanted) or 'none'} ignored"),
                         fix=f"Leave the selection out for all, or name some of {', '.join(ids)}")
    return wanted, unwanted


def chosen(rule: str, select: Iterable[str] | None = None, ignore: Iterable[str] | None = None) -> bool:
    """Whether a rule is among the chosen ones.

    Args:
        rule: its id.
        select: ids or beginnings of ids; None for all.
        ignore: ids or beginnings of ids; they win over ``select``.

    Example:
        >>> chosen("DK201", select=["DK2"]), chosen("DK201", select=["DK2"], ignore=["DK201"])
        (True, False)
    """
    return (select is None or rule.startswith(tuple(select))) and not (ignore and rule.startswith(tuple(ignore)))


def write_baseline(result: AuditResult, path: str | os.PathLike[str]) -> Path:
    """Write the findings' fingerprints to a file, so that later audits show new findings only.

    Args:
        result: of an audit.
        path: of the JSON file.
    """
    rows = {found.fingerprint: {"rule": found.rule, "file": _name(found.place.file), "message": found.message}
            for found in result.findings}
    content = {"version": _VERSION, "findings": dict(sorted(rows.items()))}
    return write_atomically(Path(path), json.dumps(content, indent=2) + "\n")


def read_baseline(path: str | os.PathLike[str]) -> Mapping[str, object]:
    """The fingerprints of a baseline.

    Args:
        path: of the file that `write_baseline` made.

    Raises:
        InputError: there is no such file, or it is something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        found = content["findings"]
        if content["version"] != _VERSION or not isinstance(found, dict):
            raise ValueError("another version")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("a baseline is a file that --write-baseline made", got=os.fspath(path),
                         fix="Make it with --write-baseline FILE") from error
    return found


def without_baseline(result: AuditResult, path: str | os.PathLike[str]) -> AuditResult:
    """Set apart the findings that a baseline knows.

    Args:
        result: of an audit.
        path: of the baseline.
    """
    known = read_baseline(path)
    old = tuple((found, f"in the baseline {Path(path).name}") for found in result.findings if found.fingerprint in known)
    return replace(result, findings=tuple(found for found in result.findings if found.fingerprint not in known),
                   allowed=(*result.allowed, *old))


def _allowances(text: str) -> Iterator[Allowance]:
    lines = text.splitlines()
    try:
        tokens = [found for found in tokenize.generate_tokens(io.StringIO(text).readline) if found.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        match = _COMMENT.search(token.string)
        if match is not None:
            line = token.start[0]
            about = line if lines[line - 1].partition("#")[0].strip() else _next_code(lines, line)
            rules = tuple(part.strip() for part in match["rules"].split(","))
            yield Allowance(about, rules, _reason(match["reason"]), line, lines[line - 1].strip())


def _reason(text: str) -> str:
    return text.strip().removeprefix("(").removesuffix(")").strip() if text.strip().startswith("(") else ""


def _next_code(lines: list[str], line: int) -> int:
    """The line below a comment that stands alone; several comments in a row are about the same line."""
    while line < len(lines) and lines[line].lstrip().startswith("#"):
        line += 1
    return line + 1


def _name(file: str | None) -> str:
    return Path(file).name if file else ""


def _text(file: str | None) -> str:
    try:
        return Path(file or "").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
