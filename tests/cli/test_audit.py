"""``dropkit audit``: targets, inputs, formats, exit codes."""

import json
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import dropkit as dk
from dropkit.audit.builders import as_built
from dropkit.audit.finding import Finding, Place
from dropkit.audit.result import AuditResult, Coverage, Gap
from dropkit.cli.main import main
from dropkit.cli.targets import find_inputs, find_target, make_input

NET = """\
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))

def batch():
    return {"x": torch.ones(2, 4)}

def fails():
    raise RuntimeError("no weights")

model = build()
number = 3
"""


class Stub:
    """Stands in for the probe: remembers how it was called, and returns what a test wants."""

    def __init__(self):
        self.found, self.gaps, self.passes = [], [], ("train", "eval")

    def __call__(self, model, inputs, *, rates=None, select=None, ignore=None, limit=None):
        _, self.model, self.rates = as_built(model, rates)
        self.inputs, self.select, self.ignore, self.limit = inputs, select, ignore, limit
        if isinstance(self.found, Exception):
            raise self.found
        return AuditResult(tuple(self.found), Coverage(self.passes, 4, 4, gaps=tuple(self.gaps)))


@pytest.fixture
def stub(monkeypatch):
    module, made = ModuleType("dropkit.audit.audit"), Stub()
    module.audit = made
    monkeypatch.setitem(sys.modules, "dropkit.audit.audit", module)
    return made


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return "net.py:build"


def finding(severity="error", rule="DK101", line=5):
    return Finding(rule, "it drops in evaluation", Place("1", "net.py", line, "x"), severity, "Mend it", {}, str(line))


def run(*arguments):
    return main(["audit", *arguments])


def one_line(capsys):
    text = capsys.readouterr().err
    assert len(text.strip().splitlines()) == 1
    return text


def test_a_clean_model_exits_with_0(stub, net, capsys):
    assert run(net, "--input", "2,4") == 0
    assert capsys.readouterr().out.startswith("No findings.\nCovered: passes train, eval; 4 of 4 modules")
    assert isinstance(stub.model, nn.Sequential)
    assert stub.inputs.shape == (2, 4)


def test_a_model_is_audited_without_the_stub(tmp_path, capsys):
    (tmp_path / "bad.py").write_text("from torch import nn\nfrom torch.nn import functional as F\n\nclass Net(nn.Module):\n"
                                     "    def forward(self, x):\n        return F.dropout(x, 0.5)\n")
    assert run(f"{tmp_path / 'bad.py'}:Net", "--input", "8,64", "--select", "DK101") == 1
    assert "bad.py:6" in capsys.readouterr().out


RATES = """\
from torch import nn

def build(p=0.1, dropout=0.1, width=64):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 64), nn.ReLU(), nn.Dropout(p),
                         nn.Linear(64, 4))
"""


def test_a_rate_that_does_not_reach_a_site_is_found(tmp_path, capsys):
    (tmp_path / "ignores.py").write_text(RATES)
    target = f"{tmp_path / 'ignores.py'}:build"
    assert run(target, "--input", "8,8", "--select", "DK304") == 1
    assert "whether dropout is 0.1 or 0.6" in capsys.readouterr().out
    assert run(target, "--input", "8,8", "--select", "DK304", "--rate-arguments", "p") == 0
    assert run(target, "--input", "8,8", "--rate-arguments", "q") == 2
    assert "It takes p, dropout, width" in one_line(capsys)


def test_an_exported_program_has_no_mode_to_set_and_is_read_all_the_same(tmp_path, capsys):
    (tmp_path / "exported.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n"
        "    return torch.export.export(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3)), (torch.ones(2, 4),)).module()\n")
    assert run(f"{tmp_path / 'exported.py'}:build", "--input", "2,4") == 1
    out = capsys.readouterr().out
    assert "error DK104" in out
    assert "Not covered, so not known to be clean" in out


@pytest.mark.slow
def test_the_fields_of_a_configuration_that_are_rates(capsys):
    pytest.importorskip("transformers")
    name = "bert,num_hidden_layers=1,hidden_size=64,num_attention_heads=2,intermediate_size=64,vocab_size=99"
    built = find_target(f"transformers:{name}")
    assert built.rates == ("hidden_dropout_prob", "attention_probs_dropout_prob")
    assert built(hidden_dropout_prob=0.4).config.hidden_dropout_prob == 0.4
    assert run(f"transformers:{name}", "--select", "DK304") == 0
    assert capsys.readouterr().out.startswith("No findings.")


@pytest.mark.parametrize(("severity", "level", "code"), [
    ("error", "error", 1), ("warning", "error", 0), ("warning", "warning", 1), ("note", "warning", 0), ("note", "note", 1)])
def test_the_fail_level_decides(stub, net, severity, level, code):
    stub.found = [finding(severity)]
    assert run(net, "--input", "2,4", "--fail-level", level) == code


def test_what_was_not_covered_is_said(stub, net, capsys):
    stub.gaps = [Gap("module '2'", "it did not run")]
    assert run(net, "--input", "2,4") == 0
    assert "not known to be clean" in capsys.readouterr().out


def test_a_model_that_runs_in_no_mode_is_2(stub, net, capsys):
    stub.passes, stub.gaps = (), [Gap("pass in training", "RuntimeError: shapes")]
    assert run(net, "--input", "2,4") == 2
    assert "RuntimeError: shapes" in one_line(capsys)


def test_an_audit_that_fails_is_2_without_a_traceback(stub, net, capsys):
    stub.found = KeyError("unexpected")
    assert run(net, "--input", "2,4") == 2
    assert "KeyError" in one_line(capsys)


def test_a_limit_is_handed_on(stub, net):
    assert run(net, "--input", "2,4", "--limit", "7.5") == 0
    assert stub.limit == 7.5


def test_a_patch_is_printed_alone_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("libcst")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "fit.py"
    file.write_text("model.eval\n")
    assert run("fit.py", "--static", "--fix") == 1
    printed = capsys.readouterr()
    assert "-model.eval\n+model.eval()\n" in printed.out
    assert "DK401" in printed.err
    assert "DK401" not in printed.out
    assert file.read_text() == "model.eval\n"


def test_a_long_reading_tells_how_far_it_is(tmp_path, monkeypatch, capsys):
    pytest.importorskip("libcst")
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("x = 1\n")
    monkeypatch.setattr("dropkit.cli.audit._PAUSE", -1.0)
    assert run(str(tmp_path), "--static") == 0
    assert capsys.readouterr().err.splitlines() == ["0 of 2 files read", "1 of 2 files read"]


def test_rules_are_handed_on(stub, net):
    stub.found = [finding(rule="DK203"), finding(rule="DK101")]
    assert run(net, "--input", "2,4", "--select", "dk1,DK2", "--ignore", "DK203", "--ignore", "DK101") == 0
    assert (stub.select, stub.ignore) == (["DK1", "DK2"], ["DK203", "DK101"])


def test_a_baseline_is_written_and_read(stub, net, capsys):
    stub.found = [finding()]
    assert run(net, "--input", "2,4", "--write-baseline", "known.json") == 0
    assert run(net, "--input", "2,4", "--baseline", "known.json") == 0
    stub.found = [finding(), finding(line=9)]
    assert run(net, "--input", "2,4", "--baseline", "known.json") == 1
    assert run(net, "--input", "2,4", "--baseline", "net.py") == 2


def test_a_comment_in_the_model_s_source_allows(stub, net, tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET.replace("Linear(8, 2))", "Linear(8, 2))  # dropkit: allow DK101 (meant)"))
    stub.found = [finding()]
    assert run(net, "--input", "2,4") == 0
    assert "(meant)" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["json", "sarif"])
def test_a_file_is_written(stub, net, tmp_path, capsys, form):
    stub.found = [finding()]
    assert run(net, "--input", "2,4", "--format", form, "--out", "result.txt") == 1
    assert json.loads((tmp_path / "result.txt").read_text())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("option", ["--out", "--write-baseline"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(stub, net, tmp_path, capsys, option):
    assert run(net, "--input", "2,4", option, "nowhere/result.txt") == 2
    assert "got 'nowhere'. Make it" in one_line(capsys)
    assert run(net, "--input", "2,4", option, str(tmp_path)) == 2
    assert "a folder'. Name a file in it" in one_line(capsys)
    assert not hasattr(stub, "inputs")


def test_inputs_that_are_not_named_as_such_are_refused(stub, net, capsys):
    assert run(net, "--inputs", "batch") == 2
    assert "as module:object or file.py:object; got 'batch'" in one_line(capsys)


def test_annotations(stub, net, capsys):
    stub.found = [finding()]
    run(net, "--input", "2,4", "--format", "github")
    assert capsys.readouterr().out.startswith("::error file=net.py,line=5,")


def test_source_is_audited_without_running_it(tmp_path, capsys):
    pytest.importorskip("libcst")
    (tmp_path / "fit.py").write_text("import nowhere_to_be_found\nmodel.eval\n")
    assert run(str(tmp_path), "--static") == 1
    assert "fit.py:2" in capsys.readouterr().out
    assert run(str(tmp_path / "fit.py"), str(tmp_path), "--static", "--ignore", "DK4") == 0
    assert run(str(tmp_path / "missing"), "--static") == 2


@pytest.mark.parametrize("chosen", [["--select", ""], ["--select", ","], ["--select", "DK4", "--ignore", "DK4"]])
def test_a_selection_that_leaves_no_rule_is_2(net, capsys, chosen):
    for given in ([net, "--input", "2,4"], ["net.py", "--static"]):
        assert run(*given, *chosen) == 2
        assert "one rule at least" in one_line(capsys)


@pytest.mark.parametrize("arguments", [
    ["net.py:build"], ["net.py"], ["net.py:missing", "--input", "2"], ["net.py:fails", "--input", "2"],
    ["net.py:number", "--input", "2"], ["net.py:batch", "--input", "2"], ["net.py:build", "--input", "a,b"],
    ["net.py:build", "--input", "2:int65"], ["net.py:build", "--input", "2:int64:5..1"],
    ["net.py:build", "--input", "a=2", "--input", "3"], ["net.py:build", "--input", "2", "--inputs", "net.py:batch"],
    ["net.py:build", "--inputs", "net.py:fails"], ["net.py:build", "net.py:build", "--input", "2"],
    ["net.py:build", "--input", "2", "--select", "F401"], ["net.py:build", "--input", "99999999999,99999"],
    ["net.py:build", "--input", "2,4:int64:0..99999999999999999999"], ["net.py:build", "--input", "2,4:int64:0..inf"],
    ["net.py:build", "--input", "2,4:int64:0.1..0.9"], ["net.py:build", "--input", "2,4:quint8"],
    ["net.py:build", "--input", "99999999999999999999"], ["net.py:build", "--input", "2,4:bits8"]], ids=" ".join)
def test_what_cannot_be_audited_is_2_in_a_line(stub, net, capsys, arguments):
    assert run(*arguments) == 2
    assert one_line(capsys).startswith("dropkit audit: error: ")


def test_models_by_name(net):
    assert isinstance(find_target(net)(), nn.Sequential)
    assert isinstance(find_target("net.py:model"), nn.Sequential)


def test_inputs_by_shape_type_and_range():
    ids = make_input("2,16:int64:0..1000")[1]
    assert ids.dtype == torch.int64
    assert 0 <= int(ids.min()) <= int(ids.max()) < 1000
    assert int(ids.max()) > 1
    values = make_input("3,4:float64:-1.5..2.5")[1]
    assert values.dtype == torch.float64
    assert -1.5 <= float(values.min()) <= float(values.max()) <= 2.5
    assert make_input("2,3:bool")[1].dtype == torch.bool
    assert torch.equal(make_input("2,3")[1], make_input("2,3")[1])


def test_inputs_together(net):
    model = nn.Linear(2, 2)
    pair = find_inputs(model, ["2,4", "2,5"], None)
    assert [tuple(value.shape) for value in pair] == [(2, 4), (2, 5)]
    named = find_inputs(model, ["ids=2,4:int64:0..9", "mask=2,4:bool"], None)
    assert list(named) == ["ids", "mask"]
    assert list(find_inputs(model, [], "net.py:batch")) == ["x"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [
    "bert,num_hidden_layers=1,hidden_size=32,num_attention_heads=2,intermediate_size=32,vocab_size=99",
    "t5,num_layers=1,d_model=32,d_kv=8,num_heads=2,d_ff=32,vocab_size=99",
    "vit,num_hidden_layers=1,hidden_size=32,num_attention_heads=2,intermediate_size=32"], ids=["bert", "t5", "vit"])
def test_models_of_transformers_by_configuration(name):
    pytest.importorskip("transformers")
    model = find_target(f"transformers:{name}")().eval()
    model(**find_inputs(model, [], None))


@pytest.mark.slow
def test_a_model_of_transformers_by_file(tmp_path):
    pytest.importorskip("transformers")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 99,
                                "architectures": ["GPT2LMHeadModel"]}))
    assert type(find_target(f"transformers:{file}")()).__name__ == "GPT2LMHeadModel"
    with pytest.raises(dk.InputError, match="hidden_sise"):
        find_target("transformers:gpt2,n_layer=1,hidden_sise=16")
    with pytest.raises(dk.InputError, match="transformers knows"):
        find_target("transformers:nonsense")


def test_the_assertion_shows_the_findings(stub):
    model = nn.Linear(2, 2)
    dk.assert_no_findings(model, torch.ones(1, 2))
    stub.found = [finding("note")]
    dk.assert_no_findings(model, torch.ones(1, 2), select=["DK1"])
    assert stub.select == ["DK1"]
    stub.found = [finding("warning")]
    with pytest.raises(AssertionError, match=r"DK101  net\.py:5"):
        dk.assert_no_findings(model, torch.ones(1, 2))
    stub.found, stub.gaps = [], [Gap("module '0'", "it did not run")]
    with pytest.raises(AssertionError, match="it did not run"):
        dk.assert_no_findings(model, torch.ones(1, 2))
    dk.assert_no_findings(model, torch.ones(1, 2), complete=False)
    with pytest.raises(dk.InputError, match="note, warning or error"):
        dk.assert_no_findings(model, torch.ones(1, 2), fail_level="fatal")
