"""A rule's page says all that the rule says."""

import re
from pathlib import Path

import pytest

from dropkit.audit.pages import find_rule, rule_page
from dropkit.audit.rules import rules
from dropkit.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
EVERY = pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)


@EVERY
def test_a_page_says_all(rule):
    page = rule_page(rule)
    assert page.startswith(f"# {rule.id}: {rule.title}\n")
    assert re.findall(r"```python\n(.*?)\n```", page, flags=re.DOTALL) == [rule.bad.strip(), rule.good.strip()]
    for text in (rule.why, rule.fix, rule.severity, rule.confidence, *rule.references):
        assert text in page


@EVERY
def test_the_command_line_explains_a_rule(rule, capsys):
    assert main(["explain", rule.id.lower()]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{rule.id}  {rule.title}")
    assert all(f"\n{title}\n" in out for title in ("Why", "Fix", "Flagged", "Not flagged"))
    assert all(line.strip() in out for line in rule.bad.splitlines())


def test_a_rule_that_does_not_exist_is_refused(capsys):
    assert main(["explain", "DK999"]) == 2
    assert "Known are DK001, DK101" in capsys.readouterr().err
    assert find_rule("DK001").id == "DK001"


@EVERY
def test_the_guide_links_to_the_page(rule):
    assert f"[{rule.id}](rules/{rule.id}.md)" in (DOCS / "audit.md").read_text(encoding="utf-8")
