import inspect
import pickle
import subprocess
import sys

import pytest

import dropkit as dk
from dropkit.catalog import CATALOG

# What goes with a variant and is none of its own, so that it has no row.
FUSED = ["drop_connect_moments", "drop_path_add", "dropout_add", "edge_weights", "multi_sample_loss", "r_drop_loss",
         "variational_kl"]


@pytest.mark.parametrize(("facade", "column", "more"), [(dk.nn, "module", []), (dk.functional, "function", FUSED)])
def test_a_facade_is_the_catalog(facade, column, more):
    names = sorted([*(getattr(row, column).__name__ for row in CATALOG), *more])
    assert facade.__all__ == names == dir(facade)
    for row in CATALOG:
        assert inspect.unwrap(getattr(facade, getattr(row, column).__name__)) is getattr(row, column)
    with pytest.raises(AttributeError, match="DropOut"):
        _ = facade.DropOut


@pytest.mark.parametrize("name", dk.functional.__all__)
def test_functions_are_pickled_by_name(name):
    function = getattr(dk.functional, name)
    assert pickle.loads(pickle.dumps(function)) is function


def test_stars_import_only_variants():
    scope = {}
    exec("from dropkit.nn import *", scope)
    assert set(scope) - {"__builtins__"} == set(dk.nn.__all__)


def test_importing_loads_no_compiler_and_touches_no_accelerator():
    code = ("import sys, torch; before = set(sys.modules); import dropkit.catalog, dropkit.surgery.swap; "
            "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
            "print(sorted(new), 'torch._dynamo' in sys.modules, torch.cuda.is_initialized())")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
    assert out.strip() == "['dropkit'] False False"
