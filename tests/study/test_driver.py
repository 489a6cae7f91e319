"""Studies repeat to the bit, resume, and survive what may happen to them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study import driver
from dropkit.study.checkpoint import marks
from dropkit.study.ledger import read_failures, read_progress
from dropkit.study.result import load_result
from dropkit.study.runner import RunError

EXPERIMENT = """
import dropkit as dk
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

experiment = dk.Experiment(data="iris", model=build, epochs={epochs}, batch_size=16)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.py"
    path.write_text(EXPERIMENT.format(epochs=3))
    return path


def study(file, out, **options):
    return dk.study(f"{file}:experiment", out=out, progress=False, **{"seeds": 2, "fused": False, **options})


def saved_numbers(folder):
    kept = json.loads((folder / "result.json").read_text())
    del kept["provenance"]
    return kept


def command(file, out, *options):
    return [sys.executable, "-m", "dropkit", "study", f"{file}:experiment", "--out", str(out), "--no-fused", *options]


@pytest.mark.slow
def test_one_worker_or_two_and_twice_give_the_same_numbers(file, tmp_path):
    results = [study(file, tmp_path / name, jobs=jobs) for name, jobs in (("a", 1), ("b", 2), ("c", 2))]
    numbers = [saved_numbers(tmp_path / name) for name in "abc"]
    assert numbers[0] == numbers[1] == numbers[2]
    assert results[0].numbers() == numbers[0]
    assert len(results[0].runs) == 6
    assert sorted(item.name for item in (tmp_path / "a").iterdir()) == [".lock", "ledger.sqlite", "progress", "result.json"]


@pytest.mark.slow
def test_finished_runs_are_skipped_and_seeds_can_be_added(file, tmp_path):
    first = study(file, tmp_path / "out")
    seconds = first.provenance.run_seconds
    again = study(file, tmp_path / "out", seeds=3)
    assert {key: again.provenance.run_seconds[key] for key in seconds} == seconds  # not trained again
    assert again.numbers() == study(file, tmp_path / "whole", seeds=3).numbers()


@pytest.mark.slow
def test_a_changed_experiment_is_refused(file, tmp_path):
    study(file, tmp_path / "out")
    before = (tmp_path / "out" / "result.json").read_bytes()
    for change in (("epochs=3", "epochs=4"), ("nn.ReLU()", "nn.Tanh()"), ('"iris"', '"wine"')):
        file.write_text(EXPERIMENT.format(epochs=3).replace(*change).replace("nn.Linear(4,", "nn.LazyLinear("))
        with pytest.raises(InputError, match="holds 'experiment' with other data, model or settings"):
            study(file, tmp_path / "out")
    assert (tmp_path / "out" / "result.json").read_bytes() == before


@pytest.mark.slow
def test_objects_that_only_exist_in_this_process_can_be_studied(tmp_path):
    from torch import nn
    width = 8
    experiment = dk.Experiment(data="iris", epochs=1, model=lambda: nn.Sequential(
        nn.Linear(4, width), nn.Dropout(0.2), nn.Linear(width, 3)))
    result = dk.study(experiment, seeds=[7], out=tmp_path / "out", progress=False, jobs=1,
                      arms={"none": 0.0, "strong": {"*": 0.8}})
    assert [run.seed for run in result.runs] == [7, 7]
    assert result.arms[1].sites[0].p == 0.8
    assert result.verdict.kind == "leaning"
    assert list(result.table().index) == ["none", "strong"]


@pytest.mark.slow
def test_a_run_that_raises_is_told_and_finished_runs_are_kept(tmp_path):
    file = tmp_path / "exp.py"
    file.write_text(EXPERIMENT.format(epochs=2) + """
def optimizer(parameters):
    import torch
    if torch.initial_seed() == FAILS:
        raise MemoryError("the moon is full")
    return torch.optim.SGD(parameters, lr=0.1)

from dropkit.core.streams import stream_number
FAILS = stream_number("training:1")
experiment = dk.Experiment(data="iris", model=build, epochs=2, optimizer=optimizer)
""")
    with pytest.raises(RunError, match="seed 1 failed: MemoryError: the moon is full"):
        study(file, tmp_path / "out", jobs=1)
    assert read_progress(tmp_path / "out")[2] == {("none", 0), ("reduced", 0), ("intended", 0)}
    assert "Traceback" in (tmp_path / "out" / "worker.log").read_text()
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_stopped_in_mid_study_resumes_to_the_same_numbers(number, tmp_path):
    file = tmp_path / "exp.py"
    file.write_text(EXPERIMENT.format(epochs=120))
    out = tmp_path / "out"
    driver = subprocess.Popen(command(file, out, "--seeds", "3"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:  # until some of the nine runs are in the ledger; each takes about a second
        if (out / "ledger.sqlite").exists() and len(finished(out)) >= 2:
            break
        time.sleep(0.02)
    driver.send_signal(number)
    _, error = driver.communicate(timeout=60)
    kept = finished(out)
    assert 2 <= len(kept) < 9, error
    assert not (out / "result.json").exists()
    if number == signal.SIGINT:
        assert driver.returncode == 130
        assert f"Stopped: {len(kept)} of 9 runs are finished and kept" in error
        assert 1 <= len(marks(out)) <= 2  # the runs in hand had a moment for a checkpoint
    resumed = subprocess.run(command(file, out, "--seeds", "3"), capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(kept)} of 9 runs were finished before" in resumed.stderr
    study(file, tmp_path / "whole", seeds=3)
    assert saved_numbers(out) == saved_numbers(tmp_path / "whole")


def finished(folder):
    try:
        return read_progress(folder)[2]
    except InputError:  # the tables are not there yet
        return set()


@pytest.mark.slow
def test_workers_leave_with_a_killed_driver(tmp_path):
    file = tmp_path / "exp.py"
    note_pid = f"\nimport os\nopen({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
    file.write_text(EXPERIMENT.format(epochs=100_000) + note_pid)
    driver = subprocess.Popen(command(file, tmp_path / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    pids = []
    while time.monotonic() < deadline and len(pids) < 3:  # the driver and two workers
        pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
        time.sleep(0.05)
    assert len(pids) == 3
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(alive(int(pid)) for pid in pids):
        time.sleep(0.1)
    assert not [pid for pid in pids if alive(int(pid))]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


KILLS_ITSELF = """
import os, signal
from pathlib import Path
import torch

def optimizer(parameters):
    tries = Path({tries!r})
    if torch.initial_seed() == DIES and os.getpid() != {driver}:
        tries.mkdir(exist_ok=True)
        if len(list(tries.iterdir())) < {times}:
            (tries / str(len(list(tries.iterdir())))).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return torch.optim.SGD(parameters, lr=0.1)

from dropkit.core.streams import stream_number
DIES = stream_number("training:1")
experiment = dk.Experiment(data="iris", model=build, epochs=2, optimizer=optimizer)
"""


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_run_tried_again(tmp_path):
    file, tries = tmp_path / "exp.py", tmp_path / "tries"
    body = EXPERIMENT.format(epochs=2) + KILLS_ITSELF
    file.write_text(body.format(tries=str(tries), driver=os.getpid(), times=2))
    result = study(file, tmp_path / "out", jobs=2)
    assert len(list(tries.iterdir())) == 2
    assert len(result.runs) == 6
    assert sum("died; the run is tried again" in note for note in result.provenance.notes) >= 1
    assert result.numbers() == study(file, tmp_path / "calm", jobs=2).numbers()  # nobody dies any more
    assert (tmp_path / "calm" / "result.json").exists()


@pytest.mark.slow
def test_runs_whose_workers_always_die_fail_and_the_others_are_kept(tmp_path):
    file = tmp_path / "exp.py"
    file.write_text((EXPERIMENT.format(epochs=2) + KILLS_ITSELF).format(
        tries=str(tmp_path / "tries"), driver=os.getpid(), times=99))
    with pytest.raises(RunError, match="seed 1 failed: its worker died 3 times"):
        study(file, tmp_path / "out", jobs=1, arms={"none": 0.0, "intended": 1.0})
    assert read_progress(tmp_path / "out")[2] == {("none", 0), ("intended", 0)}
    assert set(read_failures(tmp_path / "out")) == {("none", 1), ("intended", 1)}


@pytest.mark.slow
def test_arms_from_text_run_to_a_result_with_references_of_their_own(tmp_path):
    arms = "none,intended,members=2,early_stopping=1,leave-one-out"
    experiment = dk.Experiment(data="iris", epochs=4, batch_size=32)
    result = dk.study(experiment, seeds=2, out=tmp_path / "out", progress=False, jobs=2, arms=arms)
    more = arms.replace("none,", "none,batch_norm,")
    again = dk.study(experiment, seeds=2, out=tmp_path / "out", progress=False, jobs=1, arms=more)
    against = {"intended": "none", "members=2": "none", "early_stopping=1": "none", "without 3": "intended",
               "without 6": "intended"}
    assert {found.arm: found.reference for found in result.contrasts} == against
    assert again.summary.experiment_hash == result.summary.experiment_hash  # arms are no part of the experiment
    assert {arm: again.of_arm(arm) for arm in against} == {arm: result.of_arm(arm) for arm in against}
    assert load_result(tmp_path / "out").arms == again.arms


@pytest.mark.parametrize("options", [{"seeds": 0}, {"seeds": True}, {"seeds": [1, 1]}, {"seeds": [-1]}, {"seeds": [0.5]},
                                     {"seeds": None}, {"seeds": 2**70}, {"seeds": [True, 1]}, {"seeds": "ab"},
                                     {"tensorboard": 3}, {"jobs": 0}, {"arms": {"none": 0}}])
def test_bad_arguments_leave_nothing_behind(options, file, tmp_path):
    with pytest.raises(InputError):
        study(file, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seeds", [np.int64(2), np.arange(2), (0, 1)])
def test_seeds_of_numpy_are_seeds(seeds):
    found = driver._seeds(seeds)
    assert found == [0, 1]
    assert all(type(seed) is int for seed in found)


@pytest.mark.parametrize("call", [dk.study, dk.tune])
def test_what_is_no_experiment_is_refused(call):
    with pytest.raises(InputError, match=r"what is studied is a dropkit\.Experiment, or named by text; got int"):
        call(3)


def test_a_folder_is_named_by_text(file):
    with pytest.raises(InputError, match="out is the path of a folder; got 3"):
        study(file, 3)


def test_the_folder_of_a_long_name_can_be_made():
    assert driver._folder(None, "n" * 400) == Path("runs") / ("n" * 60)
