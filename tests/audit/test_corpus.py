import ast
import importlib.util
import re
import time
import warnings
from pathlib import Path

import pytest
import torch

CORPUS = Path(__file__).parents[2] / "benchmarks" / "audit_corpus"
BAD, GOOD = (sorted((CORPUS / kind).glob("*.py")) for kind in ("bad", "good"))
RULES = {f"DK{number}" for first, last in ((101, 105), (201, 209), (301, 304), (401, 403)) for number in range(first, last + 1)}


def header(file):
    """The constants of a file, read without running it."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id.isupper():
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def is_static(file):
    return header(file).get("STATIC", False)


def marked(file):
    """The lines marked for each rule."""
    lines = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        for rule in re.findall(r"DK\d{3}", line.partition("# <- ")[2]):
            lines.setdefault(rule, []).append(number)
    return lines


def load(file):
    found = importlib.util.spec_from_file_location(f"corpus_{file.stem}", file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def call(model, given):
    if isinstance(given, dict):
        return model(**given)
    return model(*given) if isinstance(given, tuple) else model(given)


def test_the_corpus_is_large_enough_and_spread_over_the_rules():
    assert len(BAD) >= 40
    assert len(GOOD) >= 25
    assert {rule for file in BAD for entry in header(file)["RULES"] for rule in entry.split("|")} == RULES


@pytest.mark.parametrize("file", [*BAD, *GOOD], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_header(file):
    found = header(file)
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).endswith(".")
    assert found["REPORT"].strip()
    ids = [rule for entry in found["RULES"] for rule in entry.split("|")]
    assert {*ids, *found.get("ALSO", ()), *found.get("ALLOWS", ())} <= RULES
    assert set(marked(file)) == set(ids), "every expected rule has a marked line, and no other rule has"
    if file.parent.name == "bad":
        assert ids
        assert file.stem[:5].upper() == found["RULES"][0].split("|")[0]
        assert re.search("https://", found["REPORT"]) or found["REPORT"].startswith("No report")
    else:
        assert not ids
        allowances = set(re.findall(r"DK\d{3}", " ".join(re.findall(r"# dropkit: allow ([^(]*)\(", file.read_text()))))
        assert allowances == set(found.get("ALLOWS", ()))


@pytest.mark.parametrize("file", [file for file in (*BAD, *GOOD) if not is_static(file)],
                         ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_builds_and_runs_in_both_modes(file):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch warns of it is a part of some reports
        module = load(file)
        model, given = module.build(), module.inputs()
        for mode in (True, False):
            model.train(mode)
            call(model, given)  # the first call of some functions imports what they need
            start = time.process_time()  # what other processes do on the machine does not count
            call(model, given)
            assert time.process_time() - start < 0.3
