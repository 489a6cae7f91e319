"""Which engine a study uses, and choices that cannot be."""

import pytest

import dropkit as dk
from dropkit.core.errors import InputError
from dropkit.study.engines.choice import Running


@pytest.mark.parametrize(("options", "said"), [
    ({"engine": "dask"}, "processes, ray, serial"),
    ({"jobs": 0}, "at least 1"),
    ({"jobs": True}, "at least 1"),
    ({"address": "auto"}, "--engine ray"),
    ({"cpus_per_run": 2}, "--engine ray"),
    ({"engine": "ray", "cpus_per_run": 0}, "above 0"),
    ({"engine": "ray", "cpus_per_run": float("nan")}, "above 0"),
    ({"checkpoint_every": -1}, "at least 0"),
    ({"checkpoint_every": "a"}, "at least 0"),
    ({"engine": "ray", "cpus_per_run": "a"}, "above 0"),
])
def test_choices_that_cannot_be_leave_nothing_behind(options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        Running(**options)
    with pytest.raises(InputError, match=said):
        dk.study("iris", out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_how_many_runs_are_trained_at_a_time():
    assert Running(engine="serial", jobs=5).workers == 1
    assert Running(jobs=5).workers == 5
    assert Running().workers >= 1
