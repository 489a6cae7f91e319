"""Well-made architectures: the audit runs through them and finds nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_audit.py"
GOOD = sorted((BENCHMARK.parent / "audit_corpus" / "good").glob("*.py"))
NAMED = ("resnet", "vit", "gpt", "unet", "lstm_language_model", "wavenet", "mlp_mixer", "vae", "gan", "diffusion_block",
         "recommender")


@pytest.fixture(scope="module")
def bench():
    found = importlib.util.spec_from_file_location("bench_audit_of_tests", BENCHMARK)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses look there
    found.loader.exec_module(module)
    return module


def test_every_kind_of_architecture_is_there():
    assert set(NAMED) <= {file.stem for file in GOOD}


@pytest.mark.parametrize("file", [
    pytest.param(file, marks=() if file.stem in NAMED else pytest.mark.slow, id=file.stem) for file in GOOD])
def test_nothing_is_found_in_what_is_well_made(file, bench):
    case = bench.run(bench.read(file))
    assert (case.error, case.found) == ("", [])
