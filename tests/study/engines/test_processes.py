"""Worker processes that die when they should not."""

import os
import signal
import time

import pytest

import dropkit as dk
from dropkit.study.checkpoint import Place
from dropkit.study.engines.processes import Processes
from dropkit.study.prepare import prepare
from dropkit.study.worker import dump


@pytest.mark.slow
def test_a_process_that_died_with_nothing_to_do_is_replaced(tmp_path):
    """Between two runs, or before its first: no run is lost, so nobody has to try again."""
    experiment = dk.Experiment(data="iris", epochs=1)
    engine = Processes(dump(experiment, None), Place(tmp_path, "hash", prepare(experiment).data.digest), slots=1, ahead=1)
    try:
        for seed in range(2):
            (number, _), = engine._pools[0]._processes.items()
            os.kill(number, signal.SIGKILL)
            while engine._pools[0]._flags.broken is None:
                time.sleep(0.01)
            found, = engine.submit(((0, seed),)).result(timeout=60).found
            assert (found.arm, found.seed, found.status) == ("none", seed, "finished")
    finally:
        engine.close()
