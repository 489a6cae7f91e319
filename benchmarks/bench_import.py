"""What ``import dropkit`` adds to ``import torch``: fresh processes in turn, milliseconds, bytecode compiled as by pip."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import numpy as np

CODE = "import time, torch; start = time.perf_counter(); {}; print((time.perf_counter() - start) * 1e3)"


def main(rounds: int = 15) -> None:
    """Print the time that the import adds, at p20, p50, p80 over fresh processes."""
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        times = [float(subprocess.run([sys.executable, "-c", CODE.format("import dropkit")], capture_output=True, text=True,
                                      check=True, env=env).stdout) for _ in range(rounds + 1)][1:]  # the first one compiles
    print("import dropkit, after torch: {:.1f}, {:.1f}, {:.1f} ms (p20, p50, p80); the bar is 50 ms".format(
        *np.percentile(times, (20, 50, 80))))


if __name__ == "__main__":
    main()
