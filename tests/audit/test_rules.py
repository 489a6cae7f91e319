"""Every rule with a check flags its bad model and not its good one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dropkit.audit.audit import audit
from dropkit.audit.rule import Rule
from dropkit.audit.rules import rules
from dropkit.core.errors import InputError

CHECKED = [rule for rule in rules() if rule.check is not None]


def _audited(source: str, rule: Rule) -> Any:
    scope: dict[str, Any] = {"__name__": "audited"}
    exec(compile(source, "audited.py", "exec"), scope)
    model, given = scope["build"](), scope["inputs"]()
    state = torch.get_rng_state()
    found = audit(model, given, select=[rule.id])
    assert torch.equal(torch.get_rng_state(), state)
    return found


@pytest.mark.parametrize("rule", CHECKED, ids=lambda rule: rule.id)
def test_bad_is_flagged_and_good_is_not(rule: Rule) -> None:
    bad, good = _audited(rule.bad, rule), _audited(rule.good, rule)
    assert rule.bad != rule.good
    assert [found.rule for found in bad.findings] == [rule.id]
    assert bad.findings[0].place.file == "audited.py"
    assert not good.findings
    assert good.coverage.passes == ("train", "eval", "train again"), good.coverage


@pytest.mark.parametrize("names", [{"select": ["DK9"]}, {"ignore": ["dk101"]}, {"select": "XX"}])
def test_a_rule_that_does_not_exist_is_refused(names: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a rule is named by its id"):
        audit(torch.nn.ReLU(), torch.ones(2, 30), **names)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_rule_names_its_source(rule: Rule) -> None:
    assert rule.references or rule.id == "DK001"  # which is about the audit's own comments


@pytest.mark.parametrize("names", [
    {"select": []}, {"select": ["DK401", "DK402"]}, {"select": ["DK1"], "ignore": ["DK1"]}, {"ignore": ["DK"]}])
def test_a_selection_that_leaves_no_rule_is_refused(names: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="one rule at least"):
        audit(torch.nn.Linear(2, 2), torch.ones(1, 2), **names)
