"""What a worker process is handed, and how it reads it."""

import subprocess
import sys

from dropkit.study import data, worker
from dropkit.study.experiment import Experiment
from dropkit.study.prepare import prepare
from dropkit.study.worker import dump, handed_over, read


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


def test_small_data_that_was_read_by_name_goes_along(tmp_path, monkeypatch):
    """What a worker is sent is what it trains on, down to the split of `test_seed`; data in memory is packed as it is."""
    named = prepare(Experiment(data="iris", test_seed=3))
    assert handed_over(named) is named.data
    monkeypatch.setattr(data, "read", None)  # nothing is read again
    found = read(dump(named.experiment, None, handed_over(named)))
    assert found.data.digest == named.data.digest
    assert found.part(1).x_test.equal(named.part(1).x_test)
    assert handed_over(prepare(Experiment(data=(named.data.x_train, named.data.y_train)))) is None
    monkeypatch.setattr(worker, "_SMALL", 10)
    assert handed_over(named) is None
