"""The patch of what is safe to rewrite: applied, it mends; nothing is written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dropkit.audit.finding import Finding, Place
from dropkit.audit.patch import patch

SOURCE = """\
class Net(Module):
    def forward(self, x):
        x = F.dropout(x, 0.5)
        x = F.dropout(
            x,
            p=0.5,
        )
        é = F.dropout(x, 0.5, True) + self.dropout(x)
        return F.dropout(F.dropout(x))


model.eval
"""
MENDED = SOURCE.replace("x = F.dropout(x, 0.5)", "x = F.dropout(x, 0.5, training=self.training)").replace(
    "        )\n", "        training=self.training)\n").replace("model.eval", "model.eval()")


def _findings(file: Path) -> list[Finding]:
    lines = {"DK101": (3, 4, 8, 9), "DK401": (12,), "DK206": (3,)}
    return [Finding(rule, "", Place(None, str(file), line), "error", "") for rule, found in lines.items() for line in found]


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patch")
def test_the_patch_mends_what_is_safe_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net.py"
    file.write_text(SOURCE, encoding="utf-8")
    found = patch(_findings(file))
    assert file.read_text(encoding="utf-8") == SOURCE
    (tmp_path / "mend.patch").write_text(found, encoding="utf-8")
    subprocess.run(["git", "apply", "mend.patch"], check=True, cwd=tmp_path)
    assert file.read_text(encoding="utf-8") == MENDED


ENDINGS = {"none": "", "carriage returns": "\n", "a form feed": "\n\f\nx = '\u2028'", "none, far below": "\n\n\n\n\n\nx = 1"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patch")
@pytest.mark.parametrize("end", ENDINGS)
def test_the_patch_applies_however_lines_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "net work.py"
    source = "class Net(Module):\n    def forward(self, x):\n        return F.dropout(x, 0.5)" + ENDINGS[end]
    source = source.replace("\n", "\r\n") if end == "carriage returns" else source
    file.write_bytes(source.encode())
    found = patch([Finding("DK101", "", Place(None, str(file), 3), "error", "")])
    (tmp_path / "mend.patch").write_bytes(found.encode())
    subprocess.run(["git", "apply", "mend.patch"], check=True, cwd=tmp_path)
    assert file.read_bytes() == source.replace("0.5)", "0.5, training=self.training)").encode()


def test_what_cannot_be_read_is_left(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def (", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe9'; model.eval\nmodel.eval\n")
    assert patch([Finding("DK401", "", Place(None, str(tmp_path / "latin.py"), 3), "error", "")]) == ""
    assert patch([*_findings(file), *_findings(tmp_path / "none.py"), Finding("DK101", "", Place(""), "error", "")]) == ""
