"""The native loops under AddressSanitizer and UndefinedBehaviorSanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest

import dropkit

HERE = Path(__file__).parent
SOURCES = Path(dropkit.__file__).parent / "kernels" / "native" / "csrc"
WITH_TORCH = {"binding.cpp", "eager.cpp", "moments_binding.cpp", "recurrent_binding.cpp"}
FLAGS = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("program", ["runs.cpp", "plans.cpp", "recurrent.cpp", "moments.cpp"])
def test_no_bad_access_and_no_undefined_behaviour(program, tmp_path):
    loops = [str(file) for file in sorted(SOURCES.glob("*.cpp")) if file.name not in WITH_TORCH]
    binary = tmp_path / "program"
    subprocess.run(["g++", *FLAGS, f"-I{SOURCES}", str(HERE / program), *loops, "-o", str(binary)], check=True)
    done = subprocess.run([str(binary)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "0 failures" in done.stdout or "failures: 0" in done.stdout, done.stdout
