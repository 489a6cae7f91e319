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
        runpy.run_path(str(file), run_name="__main__")
