"""Run every benchmark in this folder."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    for file in sorted(HERE.glob("bench_*.py")):
        print(f"== {file.name}", flush=True)
        try:
            runpy.run_path(str(file), run_name="__main__")
        except SystemExit as stopped:  # one that lacks its data or peers says so, and the others go on
            print(f"{file.name} stopped with code {stopped.code}", flush=True)
