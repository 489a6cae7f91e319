"""Every rule finds its own bad model, at the right line, and leaves the mended one alone."""

import importlib.util
import re
import warnings

import pytest

from dropkit.audit.audit import audit
from dropkit.audit.finding import SEVERITIES
from dropkit.audit.rules import rules

DYNAMIC = [rule for rule in rules() if rule.check is not None]


def loaded(source, folder, name):
    file = folder / f"{name}.py"
    file.write_text(source.lstrip("\n"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"audited_{name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, file


def run(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of the bad models
        return audit(module.build(), module.inputs())


@pytest.mark.parametrize("rule", DYNAMIC, ids=lambda rule: rule.id)
def test_the_bad_model_is_found_at_its_line(rule, tmp_path):
    module, file = loaded(rule.bad, tmp_path, f"bad_{rule.id}")
    found = [finding for finding in run(module).findings if finding.rule == rule.id]
    lines = [number for number, line in enumerate(file.read_text().splitlines(), 1) if "# here" in line]
    assert lines, "the bad source marks the line with # here"
    assert {finding.place.line for finding in found} == set(lines)
    assert {finding.place.file for finding in found} == {str(file)}
    assert all("# here" in finding.place.code for finding in found)


@pytest.mark.parametrize("rule", DYNAMIC, ids=lambda rule: rule.id)
def test_the_mended_model_is_clean(rule, tmp_path):
    module, _ = loaded(rule.good, tmp_path, f"good_{rule.id}")
    result = run(module)
    assert result.findings == ()
    assert result.clean, result.coverage.gaps


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_rule_says_what_it_is_about(rule):
    assert re.fullmatch(r"DK[0-4]\d\d", rule.id)
    assert rule.severity in SEVERITIES
    assert rule.confidence in ("high", "medium", "low")
    assert rule.title
    assert not rule.title.endswith(".")
    assert all(text.endswith((".", "`.")) for text in (rule.why, rule.fix))
    assert rule.references or rule.id < "DK1"  # a rule about our own comments has no report behind it
