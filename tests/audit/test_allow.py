"""Inline allowances, baselines, chosen rules."""

import json

import pytest

from dropkit.audit.allow import allow, allowances, chosen, read_baseline, without_baseline, write_baseline
from dropkit.audit.finding import Finding, Place
from dropkit.audit.result import AuditResult, Coverage


def result_of(file, *lines, rule="DK101"):
    texts = file.read_text(encoding="utf-8").splitlines()
    found = tuple(Finding(rule, "m", Place("head", str(file), line, texts[line - 1].strip()), "error", "f", {}, str(line))
                  for line in lines)
    return AuditResult(found, Coverage(("train",)))


def test_a_comment_on_the_line_or_above_allows(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("a = 1  # dropkit: allow DK101 (samples)\n"
                    "# dropkit: allow DK101, DK102 (the prenet (always on))\n# another comment\nb = 2\nc = 3\n")
    result = allow(result_of(file, 1, 4, 5))
    assert [found.place.line for found in result.findings] == [5]
    assert [reason for _, reason in result.allowed] == ["samples", "the prenet (always on)"]


def test_a_comment_behind_code_is_not_about_the_next_line(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("a = 1  # dropkit: allow DK101 (samples)\nb = 2\n")
    assert [found.place.line for found in allow(result_of(file, 2)).findings] == [2]


def test_another_rule_is_not_allowed(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("a = 1  # dropkit: allow DK102 (samples)\n")
    assert len(allow(result_of(file, 1)).findings) == 1


@pytest.mark.parametrize("ending", ["", " ", " ()", " because"])
def test_an_allowance_without_a_reason_allows_nothing_and_is_noted(tmp_path, ending):
    file = tmp_path / "net.py"
    file.write_text(f"a = 1  # dropkit: allow DK101{ending}\n")
    result = allow(result_of(file, 1))
    assert [(found.rule, found.severity) for found in result.findings] == [("DK101", "error"), ("DK001", "note")]
    assert result.allowed == ()


def test_allowing_twice_changes_nothing(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("a = 1  # dropkit: allow DK101\nb = 2  # dropkit: allow DK101 (meant)\n")
    once = allow(result_of(file, 1, 2))
    assert allow(once) == once


def test_text_in_strings_is_no_allowance():
    assert allowances('a = "# dropkit: allow DK101 (no)"') == []
    assert allowances("def broken(:  # dropkit: allow DK101 (no)\n\tx\n  y") is not None


def test_a_file_that_is_gone_allows_nothing():
    result = AuditResult((Finding("DK101", "m", Place(None, "gone.py", 1), "error", "f"),), Coverage())
    assert allow(result) == result


def test_a_baseline_keeps_new_findings_only(tmp_path):
    file, baseline = tmp_path / "net.py", tmp_path / "baseline.json"
    file.write_text("a = 1\nb = 2\n")
    write_baseline(result_of(file, 1), baseline)
    file.write_text("\n\na = 1\nb = 2\n")  # the known line has moved
    moved = AuditResult(tuple(Finding("DK101", "m", Place("head", str(file), line, code), "error", "f", {}, subject)
                              for line, code, subject in ((3, "a = 1", "1"), (4, "b = 2", "2"))), Coverage())
    result = without_baseline(moved, baseline)
    assert [found.place.line for found in result.findings] == [4]
    assert result.allowed[0][1] == "in the baseline baseline.json"
    assert str(tmp_path) not in baseline.read_text()  # the file is shared between machines


@pytest.mark.parametrize("content", ["", "[]", '{"version": 7, "findings": {}}', '{"version": 1}'])
def test_another_file_is_no_baseline(tmp_path, content):
    file = tmp_path / "baseline.json"
    file.write_text(content)
    with pytest.raises(ValueError, match="--write-baseline"):
        read_baseline(file)
    with pytest.raises(ValueError, match="--write-baseline"):
        read_baseline(tmp_path / "missing.json")


def test_an_empty_baseline_is_one(tmp_path):
    write_baseline(AuditResult((), Coverage()), tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == {"version": 1, "findings": {}}


@pytest.mark.parametrize(("select", "ignore", "kept"), [
    (None, None, True), (["DK2"], None, True), (["DK1"], None, False), (None, ["DK201"], False), (["DK201"], ["DK2"], False),
    ([], None, False), (None, [], True)])
def test_rules_are_chosen_by_beginnings(select, ignore, kept):
    assert chosen("DK201", select, ignore) is kept
