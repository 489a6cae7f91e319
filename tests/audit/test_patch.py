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


def test_what_cannot_be_read_is_left(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("def (", encoding="utf-8")
    assert patch([*_findings(file), *_findings(tmp_path / "none.py"), Finding("DK101", "", Place(""), "error", "")]) == ""
