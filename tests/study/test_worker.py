"""What a worker process is handed, and how it reads it."""

import subprocess
import sys

from dropkit.study.experiment import Experiment
from dropkit.study.worker import dump


def test_an_experiment_whose_module_only_the_drivers_path_has_is_read(tmp_path, monkeypatch):
    (tmp_path / "of_the_driver.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))\n")
    monkeypatch.syspath_prepend(tmp_path)
    import of_the_driver

    payload = tmp_path / "payload"
    payload.write_bytes(dump(Experiment(data="iris", model=of_the_driver.build, epochs=1), None))
    script = ("import pathlib, sys; from dropkit.study.worker import read; "
              "print(read(pathlib.Path(sys.argv[1]).read_bytes()).arms)")
    found = subprocess.run([sys.executable, "-c", script, str(payload)], cwd="/", capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "intended" in found.stdout
