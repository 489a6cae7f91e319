"""Well-made architectures: the audit runs through them and finds nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_audit.py"
GOOD = sorted((BENCHMARK.parent / "audit_corpus" / "good").glob("*.py"))


def _loaded():
    found = importlib.util.spec_from_file_location("bench_audit_of_tests", BENCHMARK)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses look there
    found.loader.exec_module(module)
    return module


BENCH = _loaded()


def test_every_kind_of_architecture_is_there():
    assert set(BENCH.WRITTEN) <= {file.stem for file in GOOD}


@pytest.mark.parametrize("file", [
    pytest.param(file, marks=() if file.stem in BENCH.WRITTEN else pytest.mark.slow, id=file.stem) for file in GOOD])
def test_nothing_is_found_in_what_is_well_made(file):
    case = BENCH.run(BENCH.read(file))
    assert (case.error, case.found) == ("", [])
