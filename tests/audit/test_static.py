"""What source code alone shows: flagged lines, and programs that must not be flagged."""

import textwrap

import pytest

from dropkit.audit.rules import rules

pytest.importorskip("libcst")
from dropkit.audit.static import audit_source, audit_text
from dropkit.audit.static import source as static_source
from dropkit.core.errors import InputError

from .programs import BAD, GOOD, HEAD


def flagged(source):
    """(rule, text of the line) of each finding."""
    return [(found.rule, found.place.code) for found in audit_text(HEAD + textwrap.dedent(source))]


STATIC = [rule for rule in rules() if rule.check is None and rule.id != "DK304"]  # which compares two builds


@pytest.mark.parametrize("rule", STATIC, ids=[rule.id for rule in STATIC])
def test_each_static_rule_flags_its_bad_twin_only(rule):
    assert {found.rule for found in audit_text(rule.bad)} == {rule.id}
    assert audit_text(rule.good) == []


@pytest.mark.parametrize(("source", "expected"), BAD.values(), ids=BAD)
def test_a_mistake_is_flagged_at_its_line(source, expected):
    assert flagged(source) == [expected]


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD)
def test_a_correct_program_is_not_flagged(source):
    assert flagged(source) == []


def test_a_model_of_which_no_mode_is_known_is_a_warning():
    source, _ = BAD["one function trains and validates, and no mode is ever set"]
    assert [found.severity for found in audit_text(textwrap.dedent(source))] == ["warning"]
    known = source.replace("for epoch", "net.train()\n            for epoch")
    assert [found.severity for found in audit_text(textwrap.dedent(known))] == ["error"]


def test_a_model_without_modes_is_not_judged():
    source = ("import torch\nfrom torch import nn\nmodel = nn.Sequential(nn.Linear(2, 2))\n"
              "for x in loader: model(x).sum().backward()\nwith torch.no_grad():\n    for x in test_loader: model(x)\n")
    assert audit_text(source) == []
    assert len(audit_text(source.replace("nn.Linear(2, 2)", "nn.Linear(2, 2), nn.Dropout(0.5)"))) == 1


def test_a_tree_is_read_and_what_is_no_source_is_a_gap(tmp_path):
    (tmp_path / "a.py").write_text("model.eval\n")
    (tmp_path / "b.py").write_text("def broken(:\n")
    (tmp_path / "c.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "d.py").write_text("model.eval\n")
    result = audit_source(tmp_path)
    assert [found.place.file for found in result.findings] == [(tmp_path / "a.py").as_posix()]
    assert [gap.what.rpartition("/")[2] for gap in result.coverage.gaps] == ["b.py", "c.py"]
    assert len(result.coverage.files) == 1


def test_source_of_which_nothing_can_be_read_is_not_clean(tmp_path):
    (tmp_path / "a.py").write_text("def broken(:\n")
    (tmp_path / "b.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.py: it could not be read .*; and 1 more"):
        audit_source(tmp_path)


@pytest.mark.parametrize("chosen", [{"select": []}, {"select": ["DK301"]}, {"select": ["DK4"], "ignore": ["DK40"]}])
def test_a_selection_that_leaves_no_rule_is_refused(tmp_path, chosen):
    (tmp_path / "fit.py").write_text("model.eval\n")
    with pytest.raises(InputError, match="one rule at least"):
        audit_source(tmp_path, **chosen)


def test_rules_are_selected_and_comments_allow(tmp_path):
    (tmp_path / "a.py").write_text("model.eval  # dropkit: allow DK401 (a joke)\nnet.eval  # dropkit: allow DK401\n")
    result = audit_source(tmp_path)
    assert [found.rule for found in result.findings] == ["DK401", "DK001"]
    assert [reason for _, reason in result.allowed] == ["a joke"]
    assert audit_source(tmp_path, select=["DK0"]).findings == result.findings[1:]
    assert audit_source(tmp_path, ignore=["DK4", "DK001"]).findings == ()


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ValueError, match="Name a"):
            audit_source(path)


def test_deeply_nested_loops_end():
    depth = 15
    lines = [f"{'  ' * level}for i{level} in range(2):" for level in range(depth)]
    assert flagged("\n".join([*lines, "  " * depth + "model.train()"])) == []


def test_a_rule_that_does_not_exist_is_refused(tmp_path):
    (tmp_path / "fit.py").write_text("x = 1\n")
    with pytest.raises(InputError, match="a rule is named by its id"):
        audit_source(tmp_path, select=["DK9"])


@pytest.mark.parametrize("source", [
    "class A(nn.Module):\n    def forward(self, x):\n        return F.dropout(x, training=self.training)\n",
    "class A(nn.Module):\n    def __init__(self):\n        self.drop = nn.Dropout(0.1)\n    def forward(self, x):\n"
    "        return self.drop(x)\n",
    "class A(nn.Module):\n    def forward(self, x):\n        return F.scaled_dot_product_attention(x, x, x, dropout_p=f())\n",
    "model.eval()\nmodel(x)\n"])
def test_a_file_with_nothing_to_find_is_not_read_in_full(source, monkeypatch):
    monkeypatch.setattr(static_source, "parse_text", lambda text, shown: pytest.fail("it was read"))
    assert audit_text(HEAD + source) == []


def test_a_renamed_function_is_still_seen():
    source = "from torch.nn.functional import dropout as d\nfrom torch import nn\nclass A(nn.Module):\n" \
             "    def forward(self, x):\n        return d(x)\n"
    assert [found.rule for found in audit_text(source)] == ["DK101"]


def test_the_tree_is_gone_through_once_however_many_functions_there_are(monkeypatch):
    seen = []
    nodes = static_source.nodes
    monkeypatch.setattr(static_source, "nodes", lambda node: seen.append(type(node).__name__) or nodes(node))
    audit_text(HEAD + "".join(f"def f{n}(model, x):\n    model.eval()\n    model(x).backward()\n" for n in range(50)))
    assert seen.count("Module") == 1
