"""Source trees: which files are read, and what could not be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from dropkit.audit.allow import allow, chosen, selection, unreasoned
from dropkit.audit.finding import SEVERITIES, Finding
from dropkit.audit.result import AuditResult, Coverage, Gap
from dropkit.audit.static.relevant import may_drop_always, may_mistake_mode, parsed
from dropkit.core.errors import InputError, MissingExtraError, phrase

_RULES = ("DK001", "DK101", "DK401", "DK402")  # those that source code shows
_LEFT_OUT = {"__pycache__", "node_modules", "build", "dist", "site-packages", "venv"}


def audit_source(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, select: Iterable[str] | None = None,
                 ignore: Iterable[str] | None = None, progress: Callable[[int, int], None] | None = None) -> AuditResult:
    r"""Audit source code without running it.

    The rules follow the mode of each model through a file: `train()`, `eval()`, gradient steps and evaluations, and through
    functions of the same file where they are called. A model of which the file does not tell the mode is not judged.

    Args:
        paths: files, or folders whose ``.py`` files are read; hidden folders, virtual environments and build folders are not.
        select: ids of rules, or their beginnings such as ``"DK4"``; others are left out. Default: all.
        ignore: ids of rules, or their beginnings, to leave out. Default: none.
        progress: called with how many files have been read, and of how many, before each. Default: none.

    Returns:
        Findings with their lines, those that an inline comment allows apart, and the files that were read. A file that is no
        Python source is a gap.

    Raises:
        InputError: a path does not exist, a folder has no Python file, no file can be read, or no rule is left.
        MissingExtraError: LibCST is not installed.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "fit.py").write_text("model.eval\n")
        >>> [found.rule for found in audit_source(folder).findings]
        ['DK401']
    """
    select, ignore = selection(select, ignore, _RULES)
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    read: list[str] = []
    gaps: list[Gap] = []
    found: list[Finding] = []
    files = list(_files(given))
    for count, file in enumerate(files):
        if progress is not None:
            progress(count, len(files))
        shown = file.as_posix()
        try:
            found += audit_text(file.read_text(encoding="utf-8"), shown)
            read.append(shown)
        except (ValueError, RecursionError) as error:
            gaps.append(Gap(f"file {shown}", f"it could not be read as Python source: {' '.join(str(error).split())[:120]}"))
    if not read:
        shown = f"{gaps[0].what}: {gaps[0].why}" + (f"; and {len(gaps) - 1} more" if len(gaps) > 1 else "")
        raise InputError("one file at least can be read as Python source", got=phrase(shown), fix="Correct it, or name another")
    kept = [finding for finding in found if chosen(finding.rule, select, ignore)]
    target = ", ".join(os.fspath(path) for path in given)
    result = AuditResult(_ordered(kept), Coverage(files=tuple(read), gaps=tuple(gaps)), target=target)
    return allow(result, notes=False)


def audit_text(text: str, shown: str = "source.py") -> list[Finding]:
    """Audit the source of one file.

    Args:
        text: the source.
        shown: how findings name the file.

    Raises:
        ValueError: it is no Python source.
        MissingExtraError: LibCST is not installed.
    """
    if find_spec("libcst") is None:
        raise MissingExtraError("libcst", "audit")
    notes = unreasoned(shown, text)
    tree = parsed(text)
    drops, modes = may_drop_always(tree, text), may_mistake_mode(tree, text)
    if not drops and not modes:
        return notes
    from dropkit.audit.static.functional_calls import functional_calls
    from dropkit.audit.static.modes import follow
    from dropkit.audit.static.source import parse_text

    source = parse_text(text, shown)
    return [*(functional_calls(source) if drops else ()), *(follow(source) if modes else ()), *notes]


def _files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    for given in paths:
        path = Path(given)
        if not path.exists():
            raise InputError("a path to audit exists", got=os.fspath(given), fix="Name a Python file or a folder of them")
        files = [path] if path.is_file() else sorted(_python_files(path))
        if not files:
            raise InputError("a folder to audit holds Python files", got=os.fspath(given), fix="Name a folder with .py files")
        yield from files


def _python_files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(".")]
        yield from (Path(place) / name for name in names if name.endswith(".py"))


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda found: (-SEVERITIES.index(found.severity), found.place.file or "",
                                                     found.place.line or 0, found.rule)))
