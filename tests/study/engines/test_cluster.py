"""Runs as Ray tasks: the same numbers as anywhere, none lost and none doubled when a machine goes."""

import json
import threading

import pytest

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.ledger import Ledger

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning:ray"),
]

EXPERIMENT = """
import dropkit as dk
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

experiment = dk.Experiment(data="iris", model=build, epochs={epochs}, batch_size=16)
"""
ARMS = {"none": 0.0, "intended": 1.0}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "exp.py"
    path.write_text(EXPERIMENT.format(epochs=2))
    return path


def study(file, out, **options):
    return dk.study(f"{file}:experiment", out=out, progress=False, fused=False, **options)


def numbers(folder):
    kept = json.loads((folder / "result.json").read_text())
    return kept.pop("provenance")["engine"], kept


def test_in_turn_in_processes_and_on_ray_the_numbers_are_the_same(file, tmp_path):
    for engine in ("serial", "processes", "ray"):
        study(file, tmp_path / engine, engine=engine, seeds=2, checkpoint_every=0)
    found = [numbers(tmp_path / engine) for engine in ("serial", "processes", "ray")]
    assert [engine for engine, _ in found] == ["serial", "processes", "ray"]
    assert found[0][1] == found[1][1] == found[2][1]
    assert sorted(item.name for item in (tmp_path / "ray").iterdir()) == [".lock", "ledger.sqlite", "progress", "result.json"]


@pytest.fixture
def cluster():
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 2**20})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_machine_that_dies_loses_no_run_and_doubles_none(file, tmp_path, cluster, monkeypatch):
    """64 runs handed over at once to two machines; one is killed when a few runs have finished."""
    file.write_text(EXPERIMENT.format(epochs=30))
    second = cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    with pytest.raises(InputError, match="40 cores a run, and 2 on the largest machine"):
        study(file, tmp_path / "large", engine="ray", address=cluster.address, cpus_per_run=40, seeds=2)
    added, enough, add = [], threading.Event(), Ledger.add

    def count(ledger, arm, run, seconds):
        added.append((run.arm, run.seed))
        if len(added) == 6:
            enough.set()
        add(ledger, arm, run, seconds)

    def kill():
        enough.wait(240)
        cluster.remove_node(second, allow_graceful=False)

    monkeypatch.setattr(Ledger, "add", count)
    killer = threading.Thread(target=kill)
    killer.start()
    result = study(file, tmp_path / "out", engine="ray", address=cluster.address, seeds=32, arms=ARMS)
    killer.join()
    assert enough.is_set()
    assert any("died; the run is tried again" in note for note in result.provenance.notes)
    assert len(added) == len(set(added)) == len(result.runs) == 64
    monkeypatch.undo()
    assert [run for run in result.runs if run.seed < 2] == study(file, tmp_path / "here", seeds=2, arms=ARMS).runs


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_a_cluster_that_does_not_answer_is_told_before_ray_waits_for_it(file, tmp_path, address, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray would ask for a quarter of an hour"))
    with pytest.raises(InputError, match="the Ray cluster answers"):
        study(file, tmp_path / "out", engine="ray", address=address, seeds=2)
