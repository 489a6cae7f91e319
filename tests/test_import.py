"""Importing dropkit is cheap: nothing heavy beyond torch and numpy, no GPU."""

import subprocess
import sys

HEAVY = ("scipy", "sklearn", "pandas", "plotly", "jinja2", "rich", "optuna", "loky", "cloudpickle", "matplotlib", "filelock")


def modules_added(statement):
    """Top-level packages that ``statement`` loads after torch, in a fresh process."""
    code = (f"import sys, torch\nbefore = set(sys.modules)\n{statement}\n"
            "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}), torch.cuda.is_initialized())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_loads_nothing_heavy_and_no_gpu():
    added = modules_added("import dropkit")
    assert "'dropkit'" in added
    assert not [name for name in HEAVY if f"'{name}'" in added]
    assert added.strip().endswith("False")


def test_a_heavy_import_is_seen():
    assert "'scipy'" in modules_added("import scipy")
