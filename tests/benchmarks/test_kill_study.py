"""A study killed -9 five times ends in the numbers of one left in peace."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "kill_study.py"


@pytest.mark.slow
def test_five_kills_change_no_number():
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", "5", "--epochs", "60", "--longest", "1.5"],
                          capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    count = json.loads(done.stdout.splitlines()[-1])
    assert count["kills"] == 5
    assert count["kills in training"] >= 1
    assert count["studies finished"] >= 1
    assert count["studies that differ"] == 0
