"""Rewrites that are safe, as a patch: a call that is told the mode, a call whose brackets were forgotten."""

from __future__ import annotations

import ast
import difflib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dropkit.audit.finding import Finding

_FUNCTIONS = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"))
_Edit = tuple[int, int, bytes]  # line from 1, column in bytes, what is put in there


def patch(findings: Iterable[Finding]) -> str:
    """A unified diff, for ``git apply`` or ``patch -p1``, that mends what needs no decision; empty if there is nothing.

    A function that drops in evaluation (DK101) gets ``training=self.training`` where it is called in a method, and
    ``model.eval`` (DK401) its brackets. Files are read and not written.

    Args:
        findings: of an audit.

    Example:
        >>> patch(())
        ''
    """
    files: dict[str, list[Finding]] = {}
    for found in findings:
        if found.place.file is not None and found.place.line is not None:
            files.setdefault(found.place.file, []).append(found)
    return "".join(_diff(Path(file), found) for file, found in sorted(files.items()))


def _diff(file: Path, findings: list[Finding]) -> str:
    try:
        before = file.read_bytes()
        before.decode()
        tree = ast.parse(before)
    except (OSError, ValueError, SyntaxError):  # a notebook's cell, what has changed since, or another encoding
        return ""
    lines = before.splitlines(keepends=True)
    edits = {edit for found in findings for edit in _edits(tree, lines, found)}
    for line, column, text in sorted(edits, reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text + lines[line - 1][column:]
    name = Path(os.path.relpath(file)).as_posix()
    shown = file.as_posix().lstrip("/") if name.startswith("..") else name
    old, new = ([line.decode() for line in io.BytesIO(text)] for text in (before, b"".join(lines)))  # lines as git counts them
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
                   for line in difflib.unified_diff(old, new, f"a/{shown}", f"b/{shown}"))


def _edits(tree: ast.Module, lines: list[bytes], finding: Finding) -> Iterator[_Edit]:
    if finding.rule == "DK401":
        for node in ast.walk(tree):
            if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Attribute) and node.lineno == finding.place.line
                    and node.value.attr in ("train", "eval") and node.end_lineno and node.end_col_offset is not None):
                yield node.end_lineno, node.end_col_offset, b"()"
    elif finding.rule == "DK101":
        calls = list(_untold(tree, finding.place.line or 0))
        if len(calls) == 1 and calls[0].end_lineno and calls[0].end_col_offset:
            line, column = calls[0].end_lineno, calls[0].end_col_offset - 1
            comma = b"" if lines[line - 1][:column].rstrip()[-1:] in (b",", b"") else b", "
            yield line, column, comma + b"training=self.training"


def _untold(tree: ast.Module, line: int) -> Iterator[ast.Call]:
    """The calls at a line, in methods, of a function that drops and is not told the mode."""
    methods = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.args.args
               and node.args.args[0].arg == "self" and node.lineno <= line <= (node.end_lineno or 0)]
    for method in methods[-1:]:
        for node in ast.walk(method):
            if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0) and _is_untold(node):
                yield node


def _is_untold(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id if isinstance(call.func, ast.Name) else ""
    starred = any(isinstance(found, ast.Starred) for found in call.args) or any(found.arg is None for found in call.keywords)
    own = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "self"
    return name in _FUNCTIONS and not own and not starred and len(call.args) < 3 and all(
        found.arg != "training" for found in call.keywords)
